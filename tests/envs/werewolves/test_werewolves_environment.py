"""Werewolves as an environment: agents, judge, settings, and what a model imitates first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest

from astuner_envs.werewolves import WerewolvesConfig
from astuner_envs.werewolves.config import WerewolvesTasksConfig
from astuner_envs.werewolves.demonstrations import conversations
from astuner_envs.werewolves.engine import Game
from astuner_envs.werewolves.judge import WerewolvesJudge
from astuner_envs.werewolves.players import Uniform, draws, play
from astuner_envs.werewolves.rules import SEVEN_PLAYERS, Role, Side
from astuner_envs.werewolves.tasks import Table
from astuner_envs.werewolves.words import write
from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.environment import Environment
from astuner_gym.episode import EpisodeOutcome, run_episode
from astuner_gym.errors import SettingError, TaskDataError
from astuner_gym.spaces import Prompt
from astuner_gym.task import JsonValue, Task
from astuner_gym.testing import EnvironmentConformance
from astuner_gym.workflow import WorkflowResult


class UniformInWords:
    """Answers as ``Uniform`` would, by following the same game beside the workflow's."""

    def __init__(self, *, seed: int) -> None:
        self._game = Game(SEVEN_PLAYERS, seed=seed)
        self._replies: dict[str, str] = {}
        self.calls: list[ChatCall] = []

    async def respond(self, call: ChatCall) -> ChatReply:
        self.calls.append(call)
        if not self._replies:
            answers = {
                request.player: Uniform().decide(
                    request, self._game.view(request.player), draws(self._game, request)
                )
                for request in self._game.requests
            }
            self._replies = {player: write(answer) for player, answer in answers.items()}
            self._game.answer(answers)
        return ChatReply(text=self._replies.pop(call.agent), thinking="secret plan")


def played(
    *, seed: int, players: dict[str, str] | None = None
) -> tuple[EpisodeOutcome, list[ChatCall]]:
    environment = WerewolvesConfig(trainable=None).build()
    task = Task("t", {"seed": seed, "wolves": "model", "village": "model", **(players or {})})
    responder = UniformInWords(seed=seed)
    outcome = asyncio.run(run_episode(environment.workflow, environment.judge, task, responder))
    return outcome, responder.calls


def uniform_game(seed: int) -> Game:
    game = Game(SEVEN_PLAYERS, seed=seed)
    play(game, dict.fromkeys(game.roles, Uniform()))
    return game


def result(outcome: EpisodeOutcome) -> dict[str, JsonValue]:
    assert isinstance(outcome.result.output, dict)
    return outcome.result.output


@pytest.mark.parametrize("seed", range(5))
def test_agents_that_answer_as_a_script_give_the_event_log_of_the_script(seed: int) -> None:
    outcome, _ = played(seed=seed)
    assert result(outcome)["events"] == [asdict(event) for event in uniform_game(seed).events]


@pytest.mark.parametrize("seed", range(5))
def test_scripted_seats_play_as_in_a_game_between_scripts(seed: int) -> None:
    outcome, calls = played(seed=seed, players={"wolves": "uniform", "village": "uniform"})
    assert calls == []
    assert result(outcome)["events"] == [asdict(event) for event in uniform_game(seed).events]


def test_reasoning_reaches_no_other_player() -> None:
    _, calls = played(seed=0)
    for call in calls:
        for message in call.messages:
            assert "secret plan" not in message.text
            assert message.role is ChatRole.ASSISTANT or message.thinking == ""


def test_a_reply_that_calls_a_tool_is_no_answer() -> None:
    environment = WerewolvesConfig(trainable=None).build()

    class CallsTools:
        async def respond(self, call: ChatCall) -> ChatReply:
            return ChatReply(text="I am a wolf.", tool_calls=(ToolCall("kill", "{}"),))

    outcome = asyncio.run(
        run_episode(
            environment.workflow, environment.judge, environment.train_tasks[0], CallsTools()
        )
    )
    asked, illegal = result(outcome)["asked"], result(outcome)["illegal"]
    assert asked == illegal
    events = result(outcome)["events"]
    assert isinstance(events, list)
    assert {event["text"] for event in events if event["kind"] == "speech"} == {""}


@pytest.mark.parametrize(
    ("trainable", "side"),
    [(["werewolf"], Side.WOLVES), (["seer", "witch"], Side.VILLAGE), (None, Side.WOLVES)],
)
def test_success_is_that_the_side_that_learns_has_won(
    trainable: list[str] | None, side: Side
) -> None:
    environment = WerewolvesConfig(trainable=trainable, wolves="model", village="model").build()
    roles = {"Ada": "werewolf", "Ben": "seer"}
    output: JsonValue = {
        "winner": "village",
        "roles": roles,
        "models": list(roles),
        "asked": {},
        "illegal": {},
        "events": [],
    }
    score = asyncio.run(environment.judge.score(Task("t", {}), WorkflowResult(output=output)))
    assert score.success == (side is Side.VILLAGE)


def test_each_prompt_extends_the_one_before_it() -> None:
    _, calls = played(seed=0)
    last: dict[str, Sequence[ChatMessage]] = {}
    for call in calls:
        before = last.get(call.agent, ())
        assert call.messages[: len(before)] == tuple(before)
        last[call.agent] = call.messages
    assert max(map(len, last.values())) > 4


def test_demonstrations_are_what_the_agents_would_have_said() -> None:
    _, calls = played(seed=3)
    last = {call.agent: call.messages for call in calls}
    said = [conversation.messages[:-1] for conversation in conversations(SEVEN_PLAYERS, seed=3)]
    texts = [[message.text for message in messages] for messages in said]
    assert texts == [[message.text for message in last[player]] for player in sorted(last)]


def test_everyone_on_the_side_that_wins_is_rewarded_alike_and_illegal_replies_cost() -> None:
    judge = WerewolvesJudge(illegal_reply_penalty=0.1, side=Side.WOLVES)
    output: JsonValue = {
        "winner": "wolves",
        "roles": {"Ada": "werewolf", "Ben": "seer", "Cleo": "villager"},
        "models": ["Ada", "Ben"],
        "asked": {"Ada": 3, "Ben": 5},
        "illegal": {"Ben": 2},
        "events": [],
    }
    score = asyncio.run(judge.score(Task("t", {}), WorkflowResult(output=output)))
    assert score.rewards == {"Ada": 1.0, "Ben": -1.2, "*": 0.0}
    assert score.success
    assert score.metrics == {
        "unfinished": 0.0,
        "win/werewolf": 1.0,
        "win/seer": 0.0,
        "illegal": 0.25,
    }


def test_success_is_that_of_the_side_that_is_measured() -> None:
    judge = WerewolvesJudge(illegal_reply_penalty=0.0, side=Side.VILLAGE)
    output: JsonValue = {
        "winner": "wolves",
        "roles": {"Ada": "werewolf", "Ben": "seer"},
        "models": ["Ben"],
        "asked": {"Ben": 1},
        "illegal": {},
        "events": [],
    }
    score = asyncio.run(judge.score(Task("t", {}), WorkflowResult(output=output)))
    assert not score.success


def test_a_game_cut_short_is_no_loss() -> None:
    environment = WerewolvesConfig(trainable=None, rounds=1, tie="none").build()

    class Silent:
        async def respond(self, call: ChatCall) -> ChatReply:
            return ChatReply(text="")

    outcome = asyncio.run(
        run_episode(environment.workflow, environment.judge, environment.train_tasks[0], Silent())
    )
    assert outcome.result.truncated
    assert not any(name.startswith("win/") for name in outcome.score.metrics)
    # Nobody answered legally: only that is held against the players, and nobody died of it.
    assert all(-1 < outcome.score.reward(player) <= 0 for player in SEVEN_PLAYERS.players)


def test_no_output_is_no_loss_either() -> None:
    judge = WerewolvesJudge(illegal_reply_penalty=0.1, side=Side.WOLVES)
    score = asyncio.run(judge.score(Task("t", {}), WorkflowResult(output=None, truncated=True)))
    assert (score.reward("Ada"), score.success) == (0.0, False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"players": 8}, r"env\.players must be one of \[7, 9\], got 8"),
        ({"trainable": ["wolf"]}, r"env\.trainable must be among .*got 'wolf'"),
        ({"trainable": ["hunter"]}, r"env\.trainable must be among .*with 7 players"),
        ({"village": "clever"}, r"env\.village must be one of .*got 'clever'"),
        ({"baselines": ["best"]}, r"env\.baselines must be among .*got 'best'"),
        ({"tie": "coin"}, r"env\.tie must be one of .*got 'coin'"),
        ({"illegal_reply_penalty": -1.0}, r"env\.illegal_reply_penalty must be >= 0"),
        ({"rounds": 0}, r"^env\.rounds must be >= 1, got 0; set env\.rounds=1 or more"),
        ({"rounds": 101}, r"^env\.rounds must be <= 100, got 101"),
        ({"talks": -1}, r"^env\.talks must be >= 0, got -1"),
    ],
)
def test_unusable_settings_are_refused_with_what_would_do(
    settings: dict[str, JsonValue], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        WerewolvesConfig(**settings)  # type: ignore[arg-type]


def test_roles_that_learn_are_played_by_models_and_all_others_by_their_sides_script() -> None:
    environment = WerewolvesConfig(trainable=["seer"], village="silent").build()
    table = Table.of(environment.train_tasks[0])
    assert {role: table.player(role) for role in SEVEN_PLAYERS.roles} == {
        Role.WEREWOLF: "careful",
        Role.VILLAGER: "silent",
        Role.SEER: "model",
        Role.WITCH: "silent",
    }
    assert set(environment.eval_tasks) == {"heldout", "vs_uniform"}
    against = Table.of(environment.eval_tasks["vs_uniform"][0])
    assert against.player(Role.WEREWOLF) == "uniform"
    assert against.player(Role.VILLAGER) == "silent"


def test_a_side_that_does_not_learn_may_be_played_by_models_as_well() -> None:
    environment = WerewolvesConfig(village="model").build()
    table = Table.of(environment.train_tasks[0])
    assert {table.player(role) for role in SEVEN_PLAYERS.roles} == {"model"}


def test_both_sides_may_learn() -> None:
    environment = WerewolvesConfig(trainable=None).build()
    table = Table.of(environment.train_tasks[0])
    assert {table.player(role) for role in SEVEN_PLAYERS.roles} == {"model"}


def test_each_side_that_learns_is_measured_against_the_baselines() -> None:
    both = WerewolvesConfig(trainable=None).build().eval_tasks
    assert set(both) == {"heldout", "wolves_vs_uniform", "village_vs_uniform"}
    wolves = Table.of(both["wolves_vs_uniform"][0])
    assert wolves.player(Role.WEREWOLF) == "model"
    assert {wolves.player(role) for role in Side.VILLAGE.roles} == {"uniform"}
    # Models that do not learn make room for the script.
    against_models = WerewolvesConfig(village="model").build().eval_tasks
    assert set(against_models) == {"heldout", "vs_uniform"}
    assert Table.of(against_models["vs_uniform"][0]).player(Role.SEER) == "uniform"


def test_held_out_games_are_no_training_games() -> None:
    environment = WerewolvesConfig().build()
    held_out = environment.eval_tasks["heldout"]
    last = environment.train_tasks[len(environment.train_tasks) - 1]
    assert Table.of(last).seed < Table.of(held_out[0]).seed


def test_games_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "games.jsonl"
    path.write_text("".join(json.dumps({"seed": seed}) + "\n" for seed in range(20)))
    environment = WerewolvesConfig(tasks=WerewolvesTasksConfig(path=str(path))).build()
    assert len(environment.train_tasks) == 18
    table = Table.of(environment.train_tasks[3])
    assert (table.seed, table.player(Role.WEREWOLF)) == (3, "model")
    assert table.player(Role.SEER) == "seer_following"


def players_of(path: Path, config: WerewolvesConfig) -> dict[Role, str]:
    """Return who plays each role in the one game of a file."""
    table = Table.of(
        replace(config, tasks=WerewolvesTasksConfig(path=str(path))).build().train_tasks[0]
    )
    return {role: table.player(role) for role in SEVEN_PLAYERS.roles}


def test_whom_a_record_names_plays_in_place_of_whom_the_settings_name(tmp_path: Path) -> None:
    path = tmp_path / "games.jsonl"
    path.write_text('{"seed": 7, "village": "uniform"}\n')
    learning_seer = WerewolvesConfig(trainable=["werewolf", "seer"], village="silent")
    assert players_of(path, learning_seer) == {
        Role.WEREWOLF: "model",
        Role.VILLAGER: "uniform",
        Role.SEER: "uniform",
        Role.WITCH: "uniform",
    }
    path.write_text('{"seed": 7, "village": "uniform", "seer": "model"}\n')
    assert players_of(path, learning_seer)[Role.SEER] == "model"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"seed": "7"}', "field 'seed' must be an integer, got '7'"),
        ('{"seed": 7, "village": "clever"}', "field 'village' must be one of"),
        ('{"seed": 7, "seer": 3}', "field 'seer' must be text, got 3"),
    ],
)
def test_a_game_that_cannot_be_played_is_found_before_a_run(
    line: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "games.jsonl"
    path.write_text('{"seed": 1}\n' * 20 + f"\n{line}\n")
    config = WerewolvesConfig(tasks=WerewolvesTasksConfig(path=str(path)))
    with pytest.raises(TaskDataError, match=rf"games\.jsonl:22: task games-20: {said}"):
        config.build()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"seed": "7"}, "field 'seed' must be an integer, got '7'"),
        ({"seed": 7, "wolves": "model"}, "field 'village' must be text"),
        ({"seed": 7, "wolves": "model", "village": "x"}, "field 'village' must be one of"),
        (
            {"seed": 7, "wolves": "model", "village": "model", "seer": "x"},
            "field 'seer' must be one of",
        ),
    ],
)
def test_a_malformed_task_is_refused(record: dict[str, JsonValue], said: str) -> None:
    with pytest.raises(TaskDataError, match=said):
        Table.of(Task("t", record))


class TestConformance(EnvironmentConformance):
    """All seats stepped."""

    def make_environment(self) -> Environment:
        return WerewolvesConfig(trainable=None).build()

    def reply(self, agent: str, observation: Prompt, *, random: Random) -> str:
        asked = observation[-1].text.splitlines()[-1]
        _, colon, names = asked.partition("One of: ")
        return random.choice(names.rstrip(".").split()) if colon else "I suspect Ben."
