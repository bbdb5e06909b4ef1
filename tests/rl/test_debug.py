"""``backbone=debug``: the same path in print, on the thread that called."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from astuner_rl import train

AGENT = """\
import threading

from agentscope.agent import Agent, InjectionConfig
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from astuner_gym.workflow import WorkflowResult

ALLOW = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="harmless")
threads = []
judged = []


async def look() -> ToolChunk:
    '''Look around.'''
    threads.append(("tool", threading.get_ident()))
    breakpoint()
    return ToolChunk(content=[TextBlock(text="a \\x1b[31mdoor")])


async def run(task, models):
    threads.append(("workflow", threading.get_ident()))
    agent = Agent(
        name="scout",
        system_prompt="Look.",
        model=models.for_role("scout", role="player"),
        toolkit=Toolkit(tools=[FunctionTool(look, permission=ALLOW)]),
        injection_config=InjectionConfig(inject_runtime_state=False),
    )
    reply = await agent.reply(UserMsg(name="user", content=task.text("question")))
    if len(judged) == 2:
        raise KeyError("lost")
    return WorkflowResult(output=reply.get_text_content())


def score(task, result):
    threads.append(("judge", threading.get_ident()))
    judged.append(task.id)
    return float(len(judged))
"""
REPLIES = ['<tool_call>{"name": "look", "arguments": {}}</tool_call>', "A door."]


class ToyRuns(Protocol):
    """The fixture ``toy``."""

    def settings(self, *overrides: str) -> list[str]: ...


@pytest.fixture
def breakpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return the threads on which ``breakpoint()`` is reached."""
    reached: list[int] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: reached.append(threading.get_ident()))
    yield reached


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "agent.py").write_text(AGENT, encoding="utf-8")
    (tmp_path / "tasks.jsonl").write_text('{"question": "Where are we?"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    replies = ",".join(f"'{reply}'" for reply in REPLIES)
    return [
        "env=custom",
        "env.workflow=agent.py:run",
        "env.judge=agent.py:score",
        "env.tasks.path=tasks.jsonl",
        "model=hf",
        "model.path=/nowhere",  # no model is loaded where the replies are scripted
        "backbone=debug",
        "sampler=scripted",
        f"sampler.replies=[{replies}]",
        "rollout.attempts=1",
        "train.steps=1",
        "train.groups=1",
        "train.group_size=3",
    ]


def test_what_a_step_would_train_on_is_printed(
    command: list[str], breakpoints: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines[: lines.index("── step 0 · task tasks-0 · sample 1")]
    tokens = [line for line in first if "tokens" in line]
    assert [line for line in first if line not in tokens] == [
        "── step 0 · task tasks-0 · sample 0",
        "scout (player) call 0: a fresh prompt",
        "  system: 'Look.'",
        "  user: 'Where are we?'",
        "  → 'look'('{}')",
        "scout (player) call 1: extends call 0",
        "  system: 'Look.'",
        "  user: 'Where are we?'",
        "  assistant: 'look'('{}')",
        "  tool: 'a \\x1b[31mdoor'",
        "  → 'A door.'",
        "completed",
        "rewards: scout 1",
    ]
    counted, logprobs = tokens[2:]
    assert counted.endswith(" context tokens, 8 sampled (stop), trained")
    assert logprobs == (
        "  tokens and log-probs: 'A' 0.00 · ' ' 0.00 · 'd' 0.00 · 'o' 0.00 · 'o' 0.00 · 'r' 0.00 "
        "· '.' 0.00 · '<|im_end|>' 0.00"
    )
    assert not any("\x1b" in line for line in lines)


def test_a_failed_episode_is_printed_and_stays_out_of_the_group(
    command: list[str], breakpoints: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    failed = lines[lines.index("── step 0 · task tasks-0 · sample 2") :]
    (reason,) = [line for line in failed if line.startswith("failed: ")]
    assert "workflow raised on task tasks-0: KeyError" in reason
    assert sum(line.endswith("masked: failed_episode") for line in failed) == 2
    # Of the rewards 1 and 2 the mean is 1.5 and the standard deviation 0.5.
    assert failed[-3:-1] == [
        "group tasks-0, player: rewards [1.0, 2.0]",
        "  advantages [-1.0, 1.0]",
    ]
    sampled = [int(line.split()[3]) for line in lines if "context tokens" in line]
    assert failed[-1] == (
        f"step 0: {sum(sampled)} tokens sampled, {sum(sampled[:4])} to train, "
        f"masked: failed_episode {sum(sampled[4:])}"
    )


def test_all_user_code_runs_on_the_calling_thread(
    command: list[str], breakpoints: list[int]
) -> None:
    assert train.main(command) == 0
    (module,) = [
        module
        for name, module in sys.modules.items()
        if name.startswith("astuner_custom_") and module.__file__ == f"{Path.cwd()}/agent.py"
    ]
    here = threading.get_ident()
    assert [place for place, _ in module.threads] == [
        *["workflow", "tool", "judge"] * 2,
        "workflow",
        "tool",
    ]
    assert {thread for _, thread in module.threads} == {here}
    assert breakpoints == [here] * 3


def test_a_model_may_be_asked_too(toy: ToyRuns, capsys: pytest.CaptureFixture[str]) -> None:
    settings = toy.settings("backbone=debug", "train.steps=2", "env.trainable=[writer]")
    assert train.main(settings) == 0
    printed = capsys.readouterr().out
    assert printed.count("── step 1 ") == 4  # two groups of two
    assert "critic (critic) call 0: a fresh prompt" in printed
    assert "masked: untrained_role" in printed
    assert "writer: rewards [" in printed
    assert "critic: rewards [" not in printed
    assert "log-probs: " in printed
