"""Learn to ask as a whole: stepped, judged, imitated message by message, and read from files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from statistics import fmean

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from astuner_envs.learn_to_ask import LearnToAskConfig
from astuner_envs.learn_to_ask.baselines import ALWAYS_MATTER, BASELINES, Policy, play
from astuner_envs.learn_to_ask.config import LearnToAskTasksConfig
from astuner_envs.learn_to_ask.intake import Intakes
from astuner_envs.learn_to_ask.intake.slots import SLOTS
from astuner_envs.learn_to_ask.intake.topics import TRAIN_TOPICS, UNSEEN_TOPICS
from astuner_envs.learn_to_ask.intake.turns import IntakeTurn, IntakeTurns
from astuner_envs.learn_to_ask.make_rows import main as make_rows
from astuner_envs.learn_to_ask.mts_dialog import read_dialogue
from astuner_envs.learn_to_ask.workflow import SYSTEM_PROMPT
from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.env import Action, Observation
from astuner_gym.environment import Environment, environment_config
from astuner_gym.episode import EpisodeOutcome, run_episode
from astuner_gym.errors import SettingError, TaskDataError
from astuner_gym.task import Task
from astuner_gym.testing import EnvironmentConformance

PUMP = {
    "cid": "7_1",
    "session_id": 7,
    "diagn": "pump",
    "messages": [
        {"role": "user", "content": "My pump is broken."},
        {"role": "user", "content": "It leaks."},
        {"role": "assistant", "content": "Where is it?"},
        {"role": "user", "content": "In the cellar."},
    ],
    "decision_truth": "continue",
    "info_truth": "It started on Monday.",
}

TRUTHLESS = {field: value for field, value in PUMP.items() if field != "decision_truth"}


class Script:
    """Answers call k with reply k, and remembers the prompts."""

    def __init__(self, *replies: ChatReply) -> None:
        self.replies = replies
        self.calls: list[ChatCall] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        self.calls.append(call)
        return self.replies[call.index]


def answered(script: Script, task: Task, config: LearnToAskConfig | None = None) -> EpisodeOutcome:
    environment = (config or LearnToAskConfig()).build()
    return asyncio.run(run_episode(environment.workflow, environment.judge, task, script))


def test_the_agent_hears_the_history_as_a_conversation() -> None:
    script = Script(ChatReply(text="When did it start?"))
    outcome = answered(script, Task("t", PUMP))
    assert outcome.score.rewards == {"*": 4.0}
    assert outcome.score.success
    assert script.calls[0].messages == (
        ChatMessage(role=ChatRole.SYSTEM, text=SYSTEM_PROMPT),
        ChatMessage(role=ChatRole.USER, text="My pump is broken.\nIt leaks."),
        ChatMessage(role=ChatRole.ASSISTANT, text="Where is it?"),
        ChatMessage(role=ChatRole.USER, text="In the cellar."),
    )


def test_a_tool_that_is_not_there_is_no_question() -> None:
    call = ChatReply(text="", tool_calls=(ToolCall(name="ask", arguments="{}"),))
    outcome = answered(Script(call, ChatReply(text="When did it start?")), Task("t", PUMP))
    assert outcome.score.metrics["content"] == 0.0


def test_the_fusion_and_the_scale_of_the_settings_are_applied() -> None:
    def reward(text: str, config: LearnToAskConfig) -> float:
        outcome = answered(Script(ChatReply(text=text)), Task("t", PUMP), config)
        return outcome.score.reward("clerk")

    assert reward("When did it start?", LearnToAskConfig(fusion="sum")) == 3.0
    agentjet = LearnToAskConfig(scale="agentjet")
    assert reward("Can you tell me more?", agentjet) == pytest.approx(2.2)


def test_demonstrations_are_what_the_agent_would_have_said() -> None:
    """Imitation and reinforcement see the same messages: both halves are compared whole."""
    environment = LearnToAskConfig().build()
    sets = environment.demonstrations
    assert sets is not None
    for index, conversation in enumerate(islice(sets.train, 20)):
        script = Script(ChatReply(text=conversation.messages[-1].text))
        answered(script, environment.train_tasks[index])
        assert script.calls[-1].messages == conversation.messages[:-1]
        assert script.calls[-1].tools == conversation.tools


def test_demonstrations_err_at_the_stated_rate_and_held_out_ones_never() -> None:
    environment = LearnToAskConfig(demonstration_error_rate=0.5).build()
    sets = environment.demonstrations
    assert sets is not None
    solved = [
        answered(
            Script(ChatReply(text=conversation.messages[-1].text)), environment.train_tasks[index]
        ).score.success
        for index, conversation in enumerate(islice(sets.train, 400))
    ]
    # 400 draws at 0.5 have a standard deviation of 0.025.
    assert 0.4 < fmean(solved) < 0.6
    for conversation in islice(sets.held_out, 50):
        assert len(conversation.messages) == 3
        assert conversation.messages[-1].text in {slot.questions[0] for slot in SLOTS.values()}


def earned(policy: Policy, turns: Sequence[IntakeTurn]) -> float:
    """The mean reward of a policy."""
    scores = play(policy, turns, fusion="product", scale="trinity")
    return fmean(score.reward("clerk") for score in scores)


def always(reply: str) -> Policy:
    return lambda turn, rng: reply


def test_no_simple_policy_comes_near_the_best() -> None:
    turns = list(IntakeTurns(Intakes("heldout", size=150)))
    rewards = {name: earned(policy, turns) for name, policy in BASELINES.items()}
    assert rewards["expert"] == 4.0
    assert max(reward for name, reward in rewards.items() if name != "expert") < 3.85
    assert rewards["random question"] < rewards["slot table"] < rewards["reading table"]
    for trick in ("stop", "all questions", "last turn again"):
        assert rewards[trick] < rewards["random question"]
    for slot in SLOTS.values():
        assert earned(always(slot.questions[0]), turns) < 2.2


def test_every_thing_has_four_slots_that_always_matter() -> None:
    for topic in (*TRAIN_TOPICS, *UNSEEN_TOPICS):
        assert len(topic.slots) == ALWAYS_MATTER, topic.name


def test_gymnasium_makes_it_by_its_id_and_finds_no_fault() -> None:
    env = gymnasium.make("astuner_envs:astuner/learn_to_ask-v0")
    check_env(env.unwrapped, skip_render_check=True)
    observation, _ = env.reset(seed=1)
    assert "<stop />" in observation
    _, reward, terminated, truncated, _ = env.step("I do not know.")
    assert (reward, terminated, truncated) in ((0.0, True, False), (1.0, True, False))
    env.close()


class TestConformance(EnvironmentConformance):
    def make_environment(self) -> Environment:
        return LearnToAskConfig().build()

    def reply(self, agent: str, observation: Observation, *, random: Random) -> Action:
        return random.choice(["<stop />", "How old is it?", "Since when?"])


def test_registered_by_name() -> None:
    assert environment_config("learn_to_ask") is LearnToAskConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "Ra"}, r"env.fusion must be one of .*'product'.*got 'Ra'"),
        ({"scale": "b"}, r"env.scale must be one of .*'trinity'.*got 'b'"),
        ({"demonstration_error_rate": 1.0}, r"env.demonstration_error_rate must be in \[0, 1\)"),
        ({"trainable": ["clerc"]}, r"env.trainable must be \[clerk\], .* got 'clerc'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        LearnToAskConfig(**settings)  # type: ignore[arg-type]


def test_a_file_to_evaluate_on_needs_one_to_train_on() -> None:
    with pytest.raises(SettingError, match=r"env.tasks.eval_path=.* needs env.tasks.path"):
        LearnToAskTasksConfig(eval_path="test.jsonl")


def from_file(path: Path) -> Environment:
    return LearnToAskConfig(tasks=LearnToAskTasksConfig(path=str(path))).build()


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def session(number: int) -> dict[str, object]:
    said = [("user", f"Pump {number} leaks."), ("assistant", "Since when?"), ("user", "May.")]
    messages = [{"role": role, "content": text} for role, text in said]
    return {"session_id": number, "diagn": "pump", "messages": messages}


def test_sessions_become_rows_and_are_held_out_whole(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "logs.jsonl", *map(session, range(20)))
    environment = from_file(path)
    assert len(environment.train_tasks) == 36
    held_out = environment.eval_tasks["heldout"]
    assert [held_out[index].text("cid") for index in range(len(held_out))] == [
        *("18_0", "18_1", "19_0", "19_1")
    ]


def test_rows_are_taken_as_they_are(tmp_path: Path) -> None:
    environment = from_file(write_jsonl(tmp_path / "rows.jsonl", PUMP))
    assert environment.train_tasks[0].record == PUMP | {"session_id": "7"}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([PUMP, session(1)], r"logs.jsonl:2: a file must hold rows, with the fields .'cid'"),
        ([TRUTHLESS], r"logs.jsonl:1: task logs-0: field 'decision_truth' must be text, got None"),
        ([PUMP, TRUTHLESS], r"logs.jsonl:2: task logs-1: field 'decision_truth' must be text"),
        ([session(1), {"session_id": 2, "diagn": "x"}], r"task logs-1: field 'messages' must be"),
        ([PUMP, PUMP | {"info_truth": ""}], r"task logs-1: field 'info_truth' must say"),
        (
            [session(1) | {"messages": [{"role": "assistant", "content": "Hello?"}]}],
            r"logs.jsonl: dialogues must give a row",
        ),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, records: list[object], message: str) -> None:
    with pytest.raises(TaskDataError, match=message):
        from_file(write_jsonl(tmp_path / "logs.jsonl", *records))


def test_speakers_of_mts_dialog() -> None:
    text = "Doctor: Hello?\nPatient: My ear\nhurts.\nGuest_family: He cried.\nDocotr_2: Since when?"
    assert [(message.speaker.value, message.text) for message in read_dialogue(text)] == [
        ("assistant", "Hello?"),
        ("user", "My ear hurts."),
        ("user", "He cried."),
        ("assistant", "Since when?"),
    ]


def test_a_dialogue_of_unknown_speakers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("ID,section_header,dialogue\n4,CC,Therapist: Hello?\n")
    with pytest.raises(TaskDataError, match=r"train.csv: dialogue 4 must begin with its speaker"):
        from_file(path)


def test_a_table_without_dialogues_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("ID,text\n1,hello\n")
    with pytest.raises(
        TaskDataError, match=r"train.csv: .* lacks \['section_header', 'dialogue'\]"
    ):
        from_file(path)


def test_real_dialogues_of_mts_dialog() -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / "mts_dialog" / "train.csv"
    if not path.is_file():
        pytest.skip(f"MTS-Dialog is not at {path}")
    environment = from_file(path)
    rows = [environment.train_tasks[index] for index in range(len(environment.train_tasks))]
    assert len(rows) > 3_000
    stops = [row.text("decision_truth") == "stop" for row in rows]
    assert 0.2 < fmean(stops) < 0.5
    script = Script(ChatReply(text="Are you allergic to anything?"))
    # Right to ask, one question, and about something else than the patient's age that comes next.
    assert answered(script, rows[0]).score.rewards == {"*": 2.0}


def test_rows_are_made_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = write_jsonl(tmp_path / "logs.jsonl", session(1))
    assert make_rows([str(logs), str(tmp_path / "rows.jsonl")]) == 0
    assert "2 rows of 1 sessions" in capsys.readouterr().out
    assert len(from_file(tmp_path / "rows.jsonl").train_tasks) == 2


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.jsonl", "out.jsonl", "none.jsonl: task data must be a readable"),
        ("logs.jsonl", "logs.jsonl", "logs.jsonl: rows must go to another file"),
        ("logs.jsonl", "none/out.jsonl", "out.jsonl: rows must go to a file in a folder that exis"),
        ("rows.jsonl", "out.jsonl", "rows.jsonl: whole dialogues have none of the fields"),
        ("silent.jsonl", "out.jsonl", "silent.jsonl: dialogues must give a row"),
    ],
)
def test_rows_that_cannot_be_made_are_refused_and_nothing_is_lost(
    source: str, target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = {"role": "assistant", "content": "Hello?"}
    write_jsonl(tmp_path / "rows.jsonl", PUMP)
    write_jsonl(tmp_path / "silent.jsonl", session(1) | {"messages": [silent]})
    logs = write_jsonl(tmp_path / "logs.jsonl", session(1))
    before = logs.read_text()
    assert make_rows([str(tmp_path / source), str(tmp_path / target)]) == 2
    assert message in capsys.readouterr().err
    assert logs.read_text() == before
    assert not (tmp_path / "out.jsonl").exists()
