"""``play``: what is typed is a task, and nothing an agent says reaches the terminal raw."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

import pytest

from astuner_envs.learn_to_ask.records import Row
from astuner_envs.learn_to_ask.workflow import LearnToAskWorkflow
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl import play


class ToyRuns(Protocol):
    """The fixture ``toy``."""

    def start(self, folder: Path, *overrides: str) -> int: ...


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def calculating(*replies: str) -> list[str]:
    quoted = ",".join("'" + reply.replace("'", r"\'") + "'" for reply in replies)
    return ["env=gsm8k", "sampler=scripted", f"sampler.replies=[{quoted}]"]


def tool_call(name: str, expression: str) -> str:
    body = json.dumps({"name": name, "arguments": {"expression": expression}}, ensure_ascii=False)
    return f"<tool_call>{body}</tool_call>"


def test_a_typed_task_is_played_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, "What is 6*7?\n\n   \nAnd 2*3?\n")
    replies = (f"<think>Hm.</think>{tool_call('calculator', '6*7')}", "#### 42")
    assert play.main(calculating(*replies)) == 0
    shown = [
        "  solver thinks: 'Hm.'",
        "  solver calls 'calculator' '{\"expression\": \"6*7\"}'",
        "  'calculator' → '42'",
        "  solver: '#### 42'",
    ]
    # Blank lines are asked again; the prompt names the field that the line becomes.
    assert capsys.readouterr().out.splitlines() == [
        "question> " + shown[0],
        *shown[1:],
        "question> question> question> " + shown[0],
        *shown[1:],
        "question> ",
    ]


def test_a_person_talks_to_the_clerk_until_it_stops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[list[str]] = []

    async def run(self: LearnToAskWorkflow, task: Task, models: Models) -> WorkflowResult:
        heard.append([message.text for message in Row.of(task).history])
        return await spoken(self, task, models)

    spoken = LearnToAskWorkflow.run
    monkeypatch.setattr(LearnToAskWorkflow, "run", run)
    type_in(monkeypatch, "My pump leaks.\nSince May.\nHello again.\n")
    command = ["env=learn_to_ask", "sampler=scripted"]
    assert play.main([*command, "sampler.replies=['Since when?']"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "person>   clerk: 'Since when?'"
    assert heard[1] == ["My pump leaks.", "Since when?", "Since May."]
    assert len(heard[2]) == 5
    heard.clear()
    type_in(monkeypatch, "My pump leaks.\nHello again.\n")
    assert play.main([*command, "sampler.replies=['<stop />']"]) == 0
    assert heard == [["My pump leaks."], ["Hello again."]]


@pytest.mark.parametrize("place", ["text", "thinking", "tool name"])
def test_control_characters_are_shown_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    type_in(monkeypatch, "Hello?\n")
    hostile = "\x1b[2Jgone"
    reply = {
        "text": hostile,
        "thinking": f"<think>{hostile}</think>yes",
        "tool name": tool_call("\\u001b[2Jgone", "1").replace("\\\\u", "\\u"),
    }[place]
    assert play.main(calculating(reply)) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[2Jgone" in printed


def test_a_run_is_played(
    toy: ToyRuns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, "train.steps=1") == 0
    capsys.readouterr()
    type_in(monkeypatch, "Hello?\nHello?\n")
    assert play.main([f"run={run}"]) == 0
    first, second = capsys.readouterr().out.split("question> ")[1:3]
    assert first == second  # greedily, so alike
    assert [line.split(":")[0] for line in first.splitlines()] == [
        "  writer",
        "  critic",
        "  writer",
    ]


def test_a_failure_is_shown_and_the_next_task_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.py").write_text(
        "from astuner_gym.workflow import WorkflowResult\n"
        "async def run(task, models):\n"
        "    print('played', task.text('name'), task.record['level'])\n"
        "    if task.text('name') == 'Ada':\n"
        "        raise KeyError('\\x1b[2J')\n"
        "    return WorkflowResult(output=None)\n"
        "def score(task, result): return 0\n",
        encoding="utf-8",
    )
    (tmp_path / "tasks.jsonl").write_text('{"level": 3, "name": "x"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    type_in(monkeypatch, "Ada\nGrace\n")
    custom = ["env=custom", "env.workflow=agent.py:run", "env.judge=agent.py:score"]
    sampler = ["sampler=scripted", "sampler.replies=['hi']"]
    assert play.main([*custom, *sampler, "env.tasks.path=tasks.jsonl"]) == 0
    printed = capsys.readouterr().out
    assert "played Ada 3" in printed  # the other fields are those of the first task
    assert "failed: " in printed and "workflow raised on task typed-0: KeyError" in printed
    assert "\x1b" not in printed
    assert "played Grace 3" in printed


def test_ctrl_c_at_the_prompt_ends_it() -> None:
    command = [sys.executable, "-m", "astuner_rl.play", *calculating("hi")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        while process.stdout.read(1) not in (b">", b""):
            pass
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate()  # its input stays open: nobody presses Enter
        watchdog.cancel()
    assert process.returncode == 130
    assert said.decode().strip().endswith("interrupted")
