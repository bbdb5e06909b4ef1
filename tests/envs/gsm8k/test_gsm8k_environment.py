"""GSM8K as a whole: stepped by Gymnasium's rules, judged, and imitated message by message."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from random import Random

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.gsm8k.config import Gsm8kTasksConfig
from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.env import Action, Observation
from astuner_gym.environment import Environment, environment_config
from astuner_gym.episode import EpisodeOutcome, run_episode
from astuner_gym.errors import SettingError, TaskDataError
from astuner_gym.task import Task
from astuner_gym.testing import EnvironmentConformance

TOM = Task(
    id="tom", record={"question": "Tom has 12 apples and eats 5. How many?", "answer": "#### 7"}
)


def calculate(expression: str) -> ChatReply:
    call = ToolCall(name="calculator", arguments=f'{{"expression": "{expression}"}}')
    return ChatReply(text="", tool_calls=(call,))


class Script:
    """Answers call k with reply k, and remembers the prompts."""

    def __init__(self, *replies: ChatReply) -> None:
        self.replies = replies
        self.calls: list[ChatCall] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        self.calls.append(call)
        return self.replies[call.index]


def solve(script: Script, task: Task = TOM, *, max_calls: int = 10) -> EpisodeOutcome:
    environment = Gsm8kConfig(max_calls=max_calls).build()
    return asyncio.run(run_episode(environment.workflow, environment.judge, task, script))


def test_agent_calculates_and_answers() -> None:
    script = Script(calculate("12-5"), ChatReply(text="#### 7"))
    outcome = solve(script)
    assert outcome.score.success
    assert outcome.score.rewards == {"*": 1.0}
    assert script.calls[1].messages[-1].text == "7"


def test_wrong_answer_and_no_answer_are_worth_nothing() -> None:
    assert solve(Script(ChatReply(text="#### 17"))).score.rewards == {"*": 0.0}
    unanswered = solve(Script(ChatReply(text="I do not know.")))
    assert unanswered.score.rewards == {"*": 0.0}
    assert unanswered.score.metrics == {"answered": 0.0}


def test_a_bad_expression_comes_back_as_a_short_message() -> None:
    script = Script(calculate("__import__('os')"), ChatReply(text="#### 7"))
    assert solve(script).score.success
    result = script.calls[1].messages[-1]
    assert result.role is ChatRole.TOOL
    assert 0 < len(result.text) < 300


def test_the_limit_of_replies_truncates() -> None:
    outcome = solve(Script(*[calculate("1+1")] * 3), max_calls=3)
    assert outcome.result.truncated
    assert not outcome.score.success


def test_demonstrations_are_what_the_agent_would_have_said() -> None:
    """Imitation and reinforcement see the same messages: both halves are compared whole."""
    sets = Gsm8kConfig().build().demonstrations
    assert sets is not None
    for conversation in islice(sets.train, 20):
        assistant = [m for m in conversation.messages if m.role is ChatRole.ASSISTANT]
        script = Script(*(ChatReply(text=m.text, tool_calls=m.tool_calls) for m in assistant))
        solve(script, Task("t", {"question": conversation.messages[1].text, "answer": "#### 0"}))
        last = script.calls[-1]
        assert last.messages == conversation.messages[:-1]
        assert last.tools == conversation.tools


def test_demonstrations_err_at_the_stated_rate_and_held_out_ones_never() -> None:
    environment = Gsm8kConfig(demonstration_error_rate=0.5).build()
    sets = environment.demonstrations
    assert sets is not None
    rewards = []
    for index, conversation in enumerate(islice(sets.train, 400)):
        task = environment.train_tasks[index]
        assert conversation.messages[1].text == task.text("question")
        rewards.append(_reward(environment, task, conversation.messages[-1]))
    # 400 draws at 0.5 have a standard deviation of 0.025.
    assert 0.4 < sum(rewards) / 400 < 0.6
    for index, conversation in enumerate(islice(sets.held_out, 100)):
        task = environment.eval_tasks["heldout"][index]
        assert _reward(environment, task, conversation.messages[-1]) == 1.0


def _reward(environment: Environment, task: Task, answer: ChatMessage) -> float:
    script = Script(ChatReply(text=answer.text))
    outcome = asyncio.run(run_episode(environment.workflow, environment.judge, task, script))
    return outcome.score.reward("solver")


def test_gymnasium_makes_it_by_its_id_and_finds_no_fault() -> None:
    env = gymnasium.make("astuner_envs:astuner/gsm8k-v0")
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_gymnasium_steps_an_episode() -> None:
    env = gymnasium.make("astuner/gsm8k-v0")
    observation, _ = env.reset(seed=1)
    assert "calculator" in observation
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    observation, reward, terminated, truncated, _ = env.step(call)
    assert "42" in observation
    assert (reward, terminated, truncated) == (0.0, False, False)
    _, reward, terminated, truncated, _ = env.step("I give up.")
    assert (reward, terminated, truncated) == (0.0, True, False)
    env.close()


class TestConformance(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return Gsm8kConfig().build()

    def reply(self, agent: str, observation: Observation, *, random: Random) -> Action:
        return calculate(f"{random.randrange(100)}+{random.randrange(100)}")


def test_tasks_come_from_a_file_and_its_last_tenth_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(f'{{"question": "q{i}", "answer": "#### {i}"}}\n' for i in range(30)))
    environment = Gsm8kConfig(tasks=Gsm8kTasksConfig(path=str(path))).build()
    assert len(environment.train_tasks) == 27
    assert len(environment.eval_tasks["heldout"]) == 3
    assert environment.eval_tasks["heldout"][0].text("question") == "q27"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q"}', r"problems.jsonl:2: field 'answer' is missing"),
        ('{"question": "", "answer": "#### 1"}', r"problems.jsonl:2: field 'question' must be"),
        ('{"question": 3, "answer": "#### 1"}', r"problems.jsonl:2: field 'question' must be"),
        (
            '{"question": "q", "answer": "so"}',
            r"problems.jsonl:2: the gold answer must end in .*'so'",
        ),
        ("not json", r"problems.jsonl:2: each line must be one JSON object"),
        ("[1]", r"problems.jsonl:2: each line must be a JSON object"),
    ],
)
def test_malformed_file_names_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(f'{{"question": "q", "answer": "#### 1"}}\n{line}\n')
    with pytest.raises(TaskDataError, match=message):
        Gsm8kConfig(tasks=Gsm8kTasksConfig(path=str(path))).build()


def test_empty_file_and_bad_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    with pytest.raises(TaskDataError, match=r"empty.jsonl.*at least one record"):
        Gsm8kConfig(tasks=Gsm8kTasksConfig(path=str(path))).build()
    with pytest.raises(SettingError, match=r"env.tasks.source must be one of .*got 'web'"):
        Gsm8kTasksConfig(source="web")
    with pytest.raises(SettingError, match=r"env.max_calls must be >= 2"):
        Gsm8kConfig(max_calls=1)
    with pytest.raises(SettingError, match=r"env.trainable must be \[solver\], .* got 'sovler'"):
        Gsm8kConfig(trainable=["solver", "sovler"])


def test_a_row_to_evaluate_on_that_cannot_be_judged_is_named(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text('{"question": "q", "answer": "#### 1"}\n')
    test.write_text('{"question": "q", "answer": "#### 1 or 2"}\n')
    tasks = Gsm8kTasksConfig(path=str(train), eval_path=str(test))
    with pytest.raises(TaskDataError, match=r"test.jsonl:1: the gold answer must end in"):
        Gsm8kConfig(tasks=tasks).build()


def test_registered_by_name_and_a_wrong_name_lists_the_right_ones() -> None:
    assert environment_config("gsm8k") is Gsm8kConfig
    with pytest.raises(SettingError, match=r"env must be one of .*'gsm8k'.*got 'gsm9k'"):
        environment_config("gsm9k")


def test_real_rows_train() -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / "gsm8k" / "train.jsonl"
    if not path.is_file():
        pytest.skip(f"the public GSM8K rows are not at {path}")
    environment = Gsm8kConfig(tasks=Gsm8kTasksConfig(path=str(path))).build()
    assert len(environment.train_tasks) + len(environment.eval_tasks["heldout"]) == 7473
    task = environment.train_tasks[0]
    assert solve(Script(ChatReply(text="#### 72")), task).score.success
