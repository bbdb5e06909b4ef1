"""TRL's own trainer on GSM8K: its prompts, its loop over tools, and a reward that rises."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import torch
from agentscope.message import UserMsg
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, set_seed
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.gsm8k.expert import tool_schema
from astuner_envs.gsm8k.workflow import AGENT, SYSTEM_PROMPT
from astuner_gym.adapters.trl import ToolEpisode, ToolEpisodes
from astuner_gym.chat.messages import ChatMessage, ChatRole, Conversation, ToolCall
from astuner_gym.environment import DemonstrationSets, Environment
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.learning.tiny.build import build_tiny
from astuner_rl.learning.tiny.config import TinyConfig
from tests.adapters.examples import changed, examples

NAMES = ("Ann", "Ben", "Eve", "Tom")
THINGS = ("pens", "cards", "books")


@dataclass(frozen=True)
class Problem:
    """An addition."""

    index: int

    @property
    def summands(self) -> tuple[int, int]:
        random = Random(f"summands {self.index}")
        return random.randint(2, 9), random.randint(2, 9)

    @property
    def record(self) -> dict[str, str]:
        random = Random(f"words {self.index}")
        have, more = self.summands
        name, thing = random.choice(NAMES), random.choice(THINGS)
        question = f"{name} has {have} {thing} and buys {more}. How many {thing} now?"
        return {"question": question, "answer": f"#### {have + more}"}

    def solved_by(self, operator: str) -> Conversation:
        """How an agent solves it that calculates with the operator."""
        have, more = self.summands
        result = str(have + more if operator == "+" else have - more)
        arguments = f'{{"expression": "{have}{operator}{more}"}}'
        call = ToolCall("calculator", arguments, id=f"{AGENT}-0-0")
        return Conversation(
            messages=(
                ChatMessage(role=ChatRole.SYSTEM, text=SYSTEM_PROMPT),
                ChatMessage(role=ChatRole.USER, text=self.record["question"]),
                ChatMessage(role=ChatRole.ASSISTANT, tool_calls=(call,)),
                ChatMessage(role=ChatRole.TOOL, text=result, tool_call_id=call.id, name=call.name),
                ChatMessage(role=ChatRole.ASSISTANT, text=f"#### {result}"),
            ),
            tools=(tool_schema(),),
        )


TRAINED = RecordTasks("sums", [Problem(index).record for index in range(500)])


@dataclass(frozen=True)
class Demonstrations:
    """Solutions that use the operators in turns."""

    indices: range
    operators: str

    def __iter__(self) -> Iterator[Conversation]:
        for index in self.indices:
            yield Problem(index).solved_by(self.operators[index % len(self.operators)])


@pytest.fixture(autouse=True)
def no_warning_that_environments_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that calls the calculator well and subtracts in two problems of three."""
    config = TinyConfig(
        hidden_size=64,
        layers=2,
        vocab_size=1400,
        demonstrations=3000,
        passes=2,
        held_out=64,
        cache=str(tmp_path_factory.mktemp("tiny")),
    )
    demonstrations = DemonstrationSets(
        train=Demonstrations(range(1000, 4000), operators="+--"),
        held_out=Demonstrations(range(500, 600), operators="+"),
    )
    return build_tiny(config, demonstrations, say=lambda line: None)


def tokenizer_of(policy: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer, told how TRL is to read its replies."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    tokenizer.response_template = {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "tool_calls": {
                "open": "<tool_call>",
                "close_pattern": r"</tool_call>\s*",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
        },
    }
    return tokenizer


def trainer(policy: Path, output: Path, *, steps: int) -> GRPOTrainer:
    episodes = ToolEpisodes(Gsm8kConfig().build(), tasks=TRAINED)
    set_seed(0)
    return GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        episodes.rewards,
        GRPOConfig(
            output_dir=str(output),
            max_steps=steps,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=64,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
        ),
        Dataset.from_list(episodes.rows(range(len(TRAINED)))),
        processing_class=tokenizer_of(policy),
        environment_factory=episodes.make,
    )


def test_the_reward_rises(policy: Path, tmp_path: Path) -> None:
    training = trainer(policy, tmp_path, steps=40)
    training.train()
    steps = [step for step in training.state.log_history if "reward" in step]
    assert len(steps) == 40
    # Chance gives the mean of 5 steps, 320 episodes, a standard error of 0.03.
    first = statistics.mean(step["reward"] for step in steps[:5])
    last = statistics.mean(step["reward"] for step in steps[-5:])
    assert 0.15 < first < 0.6
    assert last > first + 0.25
    assert all(step["grad_norm"] > 0 for step in steps[:5])
    assert steps[-1]["tools/call_frequency"] > 0.5


def test_trl_puts_the_workflows_own_prompt_and_tools_before_the_model(
    policy: Path, tmp_path: Path
) -> None:
    training = trainer(policy, tmp_path, steps=1)
    (method,) = training.tools
    assert get_json_schema(method) == {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Evaluate arithmetic.",
            "parameters": {
                "type": "object",
                "properties": {
                    "expression": {"type": "string", "description": "For example 3*(4+5)."}
                },
                "required": ["expression"],
            },
        },
    }
    assert training.train_dataset[7]["prompt"] == [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": Problem(7).record["question"]},
    ]


def test_trls_tool_loop_is_the_workflows(policy: Path, tmp_path: Path) -> None:
    """What TRL generates is what an episode of the workflow went through."""
    training = trainer(policy, tmp_path, steps=1)
    played: list[ToolEpisode] = []
    seen = []

    def spy(completions: list, environments: list, task: list, **_: object) -> list[float]:
        played.extend(environments)
        seen.extend(zip(task, completions, strict=True))
        return [0.0] * len(completions)

    training.reward_funcs.append(spy)
    training.reward_func_names.append("spy")
    training.reward_processing_classes.append(None)
    training.reward_weights = torch.ones(2)
    training.train()
    assert len(seen) == 64
    assert len(set(map(id, played))) == 64
    calculated = [(task, said) for task, said in seen if len(said) == 3]
    assert len(calculated) > 32
    for task, (asked, result, _) in calculated:
        (call,) = asked["tool_calls"]
        assert result["role"] == "tool"
        have, more = Problem(task).summands
        results = {f"{have}+{more}": str(have + more), f"{have}-{more}": str(have - more)}
        expression = call["function"]["arguments"].get("expression")
        if expression in results:
            assert result["content"] == results[expression]


class RewardsAsItGoes:
    """Two calls, each rewarded at once."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        model = models["agent"]
        first = [UserMsg(name="user", content="Add.")]
        await model(first, tools=[tool_schema()])
        models.reward("agent", 0.5)
        await model([*first, UserMsg(name="user", content="And?")], tools=[tool_schema()])
        models.reward("agent", 0.25)
        return WorkflowResult(output=None)


def test_rewards_that_fall_in_an_episode_count() -> None:
    environment = Environment(
        name="as it goes",
        workflow=RewardsAsItGoes(),
        judge=FunctionJudge(lambda task, result: 1.0),
        train_tasks=RecordTasks("t", [{}]),
    )
    episodes = ToolEpisodes(environment)
    (row,) = episodes.rows([0])
    for _ in range(2):  # nothing of an episode is left in the next
        episode = episodes.make()
        episode.reset(**row)
        episode.calculator(expression="1+1")  # type: ignore[attr-defined]
        completion = [{"role": "assistant", "content": "2"}]
        assert episodes.rewards(completions=[completion], environments=[episode]) == [1.75]


def test_the_example_in_the_documentation_runs(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = examples("TRL")
    model = tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(policy).save_pretrained(model)
    tokenizer_of(policy).save_pretrained(model)
    monkeypatch.chdir(tmp_path)
    changes = {
        "Qwen/Qwen3-0.6B": str(model),
        "max_steps=100": "use_cpu=True, bf16=False, max_steps=2",
        "=512": "=64",
        "range(1000)": "range(20)",
    }
    code = changed(example, changes)
    exec(compile(code, "docs/adapters.md", "exec"), {})
