"""A plugin module, as a user would write one: the GSM8K workflow on two problems."""

from __future__ import annotations

from dataclasses import replace

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_gym.adapters.verifiers import plugin
from astuner_gym.task import RecordTasks

TASKS = RecordTasks(
    "sums",
    [
        {"question": "Tom has 12 apples and eats 5. How many?", "answer": "#### 7"},
        {"question": "Eve has 3 pens and buys 4. How many?", "answer": "#### 8"},
    ],
)
environment = replace(Gsm8kConfig().build(), train_tasks=TASKS)
AdditionTaskset, AdditionHarness, AdditionEnv = plugin(environment)

__all__ = ["AdditionEnv", "AdditionHarness", "AdditionTaskset"]
