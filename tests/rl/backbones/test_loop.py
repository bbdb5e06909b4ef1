"""The training loop with scripted policies: what happens, in which order, and what is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from agentscope.message import UserMsg
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.parsers import reply_parser
from astuner_gym.environment import Environment
from astuner_gym.errors import ServiceLostError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, WorkflowResult
from astuner_rl.backbones.config import (
    CheckpointConfig,
    EvalConfig,
    OverlapConfig,
    TrainConfig,
)
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.loop import LoopState, TrainingLoop
from astuner_rl.errors import RunAbortedError
from astuner_rl.learning.learner import UpdateReport
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.samplers.scripted import ScriptedAnswer, ScriptedSampler
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import AgentEpisode, DrawKey, Episode, EpisodeStatus

Say = Callable[[DrawKey], str]
SYNCHRONOUS = OverlapConfig()


class OneAnswer:
    """Asks once; ``break`` breaks it, ``lose`` loses its service and ``sleep`` never ends."""

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        asked = UserMsg(name="user", content=task.text("question"))
        response: Any = await models["solver"]([asked])
        said = response.content[0].text
        if said == "break":
            raise RuntimeError("the workflow is broken")
        if said == "lose":
            raise ServiceLostError("its world has ended")
        if said == "sleep":
            await asyncio.sleep(3600)
        return WorkflowResult(output=said)


def number_said(task: Task, result: WorkflowResult) -> float:
    """Reward the number that was said; anything else breaks the judge."""
    return float(str(result.output))


@dataclass
class Journal:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)
    lines: dict[int, Mapping[str, float | int | bool]] = field(default_factory=dict)
    episodes: dict[int, Mapping[str, Sequence[Episode]]] = field(default_factory=dict)
    saved: list[LoopState] = field(default_factory=list)
    batches: list[Sequence[AgentEpisode]] = field(default_factory=list)

    def record(
        self,
        step: int,
        metrics: Mapping[str, float | int | bool],
        episodes: Mapping[str, Sequence[Episode]],
    ) -> None:
        self.events.append(f"record {step}")
        self.lines[step] = metrics
        self.episodes[step] = episodes

    def save(self, state: LoopState) -> None:
        self.events.append(f"save {state.step}")
        self.saved.append(state)

    def series(self, name: str) -> list[float | int | bool | None]:
        """Return a figure at every step, None where it was not recorded."""
        return [self.lines[step].get(name) for step in sorted(self.lines)]

    def versions(self, step: int, phase: str) -> set[int]:
        """Return the versions that sampled the episodes of a phase."""
        return {
            record.completion.policy_version
            for episode in self.episodes[step][phase]
            for record in episode.calls
        }


class CountingLearner:
    """Learns nothing and counts its updates."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._updates = 0

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        self._updates += 1
        self._journal.events.append(f"update {self._updates}")
        self._journal.batches.append(episodes)
        return UpdateReport(updates=self._updates, metrics={"loss": float(self._updates)})

    def weights(self) -> Mapping[str, torch.Tensor]:
        return {"updates": torch.tensor(self._updates)}

    def handover(self, *, whole: bool) -> Mapping[str, torch.Tensor]:
        return self.weights()

    def adapters(self) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._updates = state["updates"]


class JournalledSampler(ScriptedSampler):
    """A scripted sampler that tells when it is given weights."""

    def __init__(self, answer: Callable[..., ScriptedAnswer], journal: Journal) -> None:
        super().__init__(answer)
        self._journal = journal

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        self._journal.events.append(f"load {version}, of update {weights['updates']}")
        await super().load_weights(weights, version=version)


@pytest.fixture(scope="module")
def renderer(hf_folder: Path) -> ChatRenderer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(hf_folder)
    return ChatRenderer(tokenizer, reply_parser("hermes"))


@dataclass(frozen=True)
class Loop:
    """Makes and runs the loop around a script."""

    renderer: ChatRenderer

    def run(self, say: Say, journal: Journal, **settings: Any) -> LoopState:
        """Train with the replies that ``say`` gives each call."""
        return asyncio.run(
            self.backbone(say, journal, **settings).run(LoopState(step=0, drawn=0, exact=True))
        )

    def backbone(
        self,
        say: Say,
        journal: Journal,
        *,
        steps: int = 2,
        groups: int = 2,
        most_draws: int = 1,
        every: int = 0,
        checkpoint_every: int = 1,
        deadline_s: float = 600.0,
        attempts: int = 1,
        trainable: Sequence[str] | None = None,
        overlap: OverlapConfig = SYNCHRONOUS,
    ) -> TrainingLoop:
        renderer = self.renderer

        def answer(prompt_ids: Sequence[int], key: DrawKey) -> ScriptedAnswer:
            return ScriptedAnswer([*renderer.codec.encode(say(key)), renderer.stop_token_ids[0]])

        sampler = JournalledSampler(answer, journal)
        tasks = RecordTasks("task", [{"question": f"number {i}?"} for i in range(5)])
        runner = EpisodeRunner(
            environment=Environment(
                name="scripted",
                workflow=OneAnswer(),
                judge=FunctionJudge(number_said),
                train_tasks=tasks,
                eval_tasks={"heldout": tasks},
            ),
            policy=TokenPolicy(renderer=renderer, sampler=sampler, seed=0),
            config=RolloutConfig(deadline_s=deadline_s, attempts=attempts),
        )
        return TrainingLoop(
            runner=runner,
            evaluator=HeldOutEvaluator(
                runner=runner, config=EvalConfig(every=every, tasks=2), seed=0
            ),
            sampler=sampler,
            learner=CountingLearner(journal),
            recorder=journal,
            checkpoints=journal,
            train=TrainConfig(steps=steps, groups=groups, group_size=2, most_draws=most_draws),
            checkpoint=CheckpointConfig(every=checkpoint_every),
            overlap=overlap,
            seed=0,
            trainable=trainable,
        )


@pytest.fixture
def loop(renderer: ChatRenderer) -> Loop:
    return Loop(renderer)


def sample_number(key: DrawKey) -> str:
    return str(key.episode.sample)


def in_train_step(step: int, task: int, sample: int, *, says: str) -> Say:
    """Return a script in which one training episode says ``says``; the others give a number."""

    def say(key: DrawKey) -> str:
        episode = key.episode
        chosen = (episode.phase, episode.step, episode.task, episode.sample)
        return says if chosen == ("train", step, task, sample) else sample_number(key)

    return say


def test_each_step_collects_learns_hands_over_the_weights_records_and_saves(loop: Loop) -> None:
    journal = Journal()
    state = loop.run(sample_number, journal)
    assert state == LoopState(step=2, drawn=4, exact=True)
    assert journal.events == [
        "record 0",
        "save 0",
        "update 1",
        "load 1, of update 1",
        "record 1",
        "save 1",
        "update 2",
        "load 2, of update 2",
        "record 2",
        "save 2",
    ]


class WaitingLearner(CountingLearner):
    """Ends an update when the next batch has been sampled, for which it must not stand in the way.

    It waits for a call of the step after, which the script reports.
    """

    def __init__(self, journal: Journal, *, last: int) -> None:
        super().__init__(journal)
        self.sampled: defaultdict[int, threading.Event] = defaultdict(threading.Event)
        self._last = last

    def update(self, episodes: Sequence[AgentEpisode]) -> UpdateReport:
        step = episodes[0].episode.step
        overlapped = step == self._last or self.sampled[step + 1].wait(timeout=20)
        report = super().update(episodes)
        return replace(report, metrics={**report.metrics, "overlapped": float(overlapped)})


@pytest.mark.parametrize("in_flight", [False, True])
def test_with_staleness_the_next_batch_is_sampled_while_one_is_learnt(
    loop: Loop, in_flight: bool
) -> None:
    journal = Journal()
    learner = WaitingLearner(journal, last=3)

    def say(key: DrawKey) -> str:
        if key.episode.phase == "train":
            learner.sampled[key.episode.step].set()
        return sample_number(key)

    backbone = loop.backbone(
        say,
        journal,
        steps=4,
        overlap=OverlapConfig(max_staleness=1, in_flight=in_flight),
    )
    state = asyncio.run(
        replace(backbone, learner=learner).run(LoopState(step=0, drawn=0, exact=False))
    )
    assert journal.series("overlapped") == [None, 1, 1, 1, 1]
    assert journal.series("staleness/max") == [None, 0, 1, 1, 1]
    assert [journal.versions(step, "train") for step in (1, 2, 3, 4)] == [{0}, {0}, {1}, {2}]
    # What is measured are the weights of its step, though others are sampled from meanwhile.
    assert journal.versions(4, "eval/heldout") == {4}
    assert state == LoopState(step=4, drawn=8, exact=False)
    assert [batch.step for batch in journal.saved[2].ahead] == [2, 3]


def test_a_synchronous_loop_has_nothing_ahead(loop: Loop) -> None:
    journal = Journal()
    loop.run(sample_number, journal, steps=3)
    assert [state.ahead for state in journal.saved] == [()] * 4
    assert journal.series("staleness/mean") == [None, 0, 0, 0]


def test_groups_that_agree_are_replaced_by_further_tasks(loop: Loop) -> None:
    """In step 1 the first task's episodes agree, so two more tasks are drawn, one too many."""

    def say(key: DrawKey) -> str:
        agrees = (key.episode.phase, key.episode.step, key.episode.task) == ("train", 0, 0)
        return "1" if agrees else sample_number(key)

    journal = Journal()
    state = loop.run(say, journal, most_draws=3)
    assert state == LoopState(step=2, drawn=6, exact=True)
    assert [{unit.episode.task for unit in batch} for batch in journal.batches] == [{1, 2}, {0, 1}]
    assert [episode.key.task for episode in journal.episodes[1]["unused"]] == [0, 0, 3, 3]
    assert "unused" not in journal.episodes[2]

    first, second = journal.lines[1], journal.lines[2]
    assert first["tokens/masked/unused_group"] == first["tokens/trained"]
    assert first["tokens/sampled"] == 2 * first["tokens/trained"]
    assert "tokens/masked/unused_group" not in second
    # Of all that were sampled: three groups say 0 and 1, one says 1 twice.
    assert first["reward/mean"] == first["reward/solver/mean"] == 5 / 8
    # What a later step draws begins where the last draw ended.
    tasks = [
        {episode.task_id for episode in journal.episodes[step][phase]}
        for step, phase in ((1, "train"), (1, "unused"), (2, "train"))
    ]
    assert [len(named) for named in tasks] == [2, 2, 2]
    assert not tasks[0] & tasks[1]


def test_each_step_is_sampled_by_the_weights_of_the_step_before(loop: Loop) -> None:
    journal = Journal()
    loop.run(sample_number, journal)
    assert [journal.versions(step, "train") for step in (1, 2)] == [{0}, {1}]
    # What is measured after a step are the weights that it made.
    assert [journal.versions(step, "eval/heldout") for step in (0, 2)] == [{0}, {2}]


@pytest.mark.parametrize(
    ("every", "measured"), [(0, [0, 5]), (2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5])]
)
def test_the_policy_is_measured_first_last_and_at_the_interval(
    loop: Loop, every: int, measured: list[int]
) -> None:
    journal = Journal()
    loop.run(sample_number, journal, steps=5, every=every)
    assert [step for step in journal.lines if "eval/accuracy" in journal.lines[step]] == measured
    assert [step for step in journal.episodes if "eval/heldout" in journal.episodes[step]] == (
        measured
    )
    for step in measured:
        assert {"eval/accuracy/low", "eval/accuracy/high", "eval/reward"} <= set(
            journal.lines[step]
        )


def test_checkpoints_are_saved_at_the_interval_and_at_the_end(loop: Loop) -> None:
    journal = Journal()
    loop.run(sample_number, journal, steps=5, checkpoint_every=2)
    assert [state.step for state in journal.saved] == [0, 2, 4, 5]


def test_every_step_has_a_line_with_what_the_loop_knows(loop: Loop) -> None:
    journal = Journal()
    loop.run(sample_number, journal, steps=3)
    assert list(journal.lines) == [0, 1, 2, 3]
    assert journal.series("run/exact") == [True] * 4
    for step in (1, 2, 3):
        line = journal.lines[step]
        assert line["reward/mean"] == line["reward/solver/mean"] == 0.5  # samples say 0 and 1
        assert line["reward/accuracy"] == 0.5
        assert line["episodes/started"] == 4
        assert line["episodes/dropped"] == 0
        assert line["tokens/sampled"] == line["tokens/trained"] == 8  # number and end of turn
        assert line["loss"] == step
        times = line["time/rollout_s"], line["time/learn_s"]
        assert line["time/step_s"] == pytest.approx(sum(times))


def test_groups_follow_the_seeded_order_of_tasks(loop: Loop) -> None:
    journal = Journal()
    loop.run(sample_number, journal, steps=5, groups=1)
    played = [journal.episodes[step]["train"] for step in range(1, 6)]
    assert all(first.task_id == second.task_id for first, second in played)
    assert {first.task_id for first, _ in played} == {f"task-{i}" for i in range(5)}


def test_an_interrupted_loop_goes_on_where_it_was(loop: Loop) -> None:
    whole, parts = Journal(), Journal()
    loop.run(sample_number, whole, steps=4)
    first = loop.run(sample_number, parts, steps=2)
    backbone = loop.backbone(sample_number, parts, steps=4)
    backbone.learner.load_state_dict({"updates": first.step})
    asyncio.run(backbone.run(first))
    tasks = [
        [episode.task_id for episode in journal.episodes[step]["train"]]
        for journal in (whole, parts)
        for step in (1, 2, 3, 4)
    ]
    assert tasks[:4] == tasks[4:]
    assert parts.events.count("record 0") == 1
    assert [state.step for state in parts.saved] == [0, 1, 2, 3, 4]


def test_a_group_with_a_failed_episode_trains_on_the_others(loop: Loop) -> None:
    journal = Journal()
    loop.run(in_train_step(0, 1, 0, says="break"), journal, steps=1)
    (batch,) = journal.batches
    trained = [(unit.episode.task, unit.episode.sample, unit.reward) for unit in batch]
    assert trained == [(0, 0, 0.0), (0, 1, 1.0), (1, 1, 1.0)]


@pytest.mark.parametrize(
    ("says", "error", "detail"),
    [
        ("break", "WorkflowError", "the workflow is broken"),
        ("unjudgeable", "JudgeError", "could not convert string to float"),
    ],
)
def test_what_fails_is_dropped_with_its_reason_and_never_scored(
    loop: Loop, says: str, error: str, detail: str
) -> None:
    journal = Journal()
    loop.run(in_train_step(0, 1, 0, says=says), journal, steps=1)
    failed = journal.episodes[1]["train"][2]
    assert (failed.status, dict(failed.rewards), failed.success) == (
        EpisodeStatus.FAILED,
        {},
        False,
    )
    assert failed.reason.startswith(error)
    assert detail in failed.reason
    line = journal.lines[1]
    assert line["episodes/dropped"] == 1
    assert line["reward/mean"] == pytest.approx(2 / 3)  # 0, 1 and 1, not 0, 1, 0 and 1
    assert line["tokens/masked/failed_episode"] == len(failed.calls[0].completion.token_ids)
    masked = line["tokens/trained"] + line["tokens/masked/failed_episode"]
    assert line["tokens/sampled"] == masked


def test_a_failed_evaluation_episode_is_dropped_too(loop: Loop) -> None:
    def say(key: DrawKey) -> str:
        is_first = key.episode.phase.startswith("eval") and key.episode.task == 0
        return "break" if is_first else "1"

    journal = Journal()
    loop.run(say, journal, steps=0)
    line = journal.lines[0]
    assert (line["eval/episodes"], line["eval/dropped"], line["eval/accuracy"]) == (2, 1, 1.0)


def test_without_a_whole_episode_the_run_ends_and_says_the_commonest_reason(loop: Loop) -> None:
    def say(key: DrawKey) -> str:
        if key.episode.phase != "train" or key.episode.step == 0:
            return "1"
        return "unjudgeable" if key.episode.task == key.episode.sample == 0 else "break"

    journal = Journal()
    with pytest.raises(RunAbortedError) as caught:
        loop.run(say, journal, steps=3)
    assert str(caught.value).startswith("step 2:")
    reasons = str(caught.value).partition("none of 4 did: ")[2].split("; ")
    assert reasons[0].startswith("3 x WorkflowError: workflow raised on a task: RuntimeError")
    assert reasons[1].startswith("1 x JudgeError")
    assert journal.events[-2:] == ["record 1", "save 1"]


def test_without_an_episode_of_a_trained_role_the_run_ends(loop: Loop) -> None:
    with pytest.raises(RunAbortedError) as caught:
        loop.run(sample_number, Journal(), trainable=["somebody else"])
    _, _, why = str(caught.value).partition("a call of a trained role, none of 4 did: ")
    assert why == (
        "env.trainable is [somebody else], and the policy was asked only in solver; "
        "set env.trainable=[solver], say, or null to train all"
    )


def test_a_deadline_that_fires_makes_the_run_inexact_for_good(loop: Loop) -> None:
    journal = Journal()
    state = loop.run(in_train_step(1, 0, 0, says="sleep"), journal, steps=3, deadline_s=1.0)
    assert journal.series("run/exact") == [True, True, False, False]
    assert [saved.exact for saved in journal.saved] == [True, True, False, False]
    assert not state.exact
    assert journal.lines[2]["episodes/dropped"] == 1
    assert "rollout.deadline_s" in journal.episodes[2]["train"][0].reason


@pytest.mark.parametrize(("says", "exact"), [("lose", False), ("break", True)])
def test_a_service_that_is_lost_for_good_makes_the_run_inexact(
    loop: Loop, says: str, exact: bool
) -> None:
    journal = Journal()
    loop.run(in_train_step(1, 0, 0, says=says), journal, steps=3)
    assert journal.series("episodes/dropped") == [None, 0, 1, 0]
    assert journal.series("run/exact") == [True, True, exact, exact]


def test_a_deadline_that_fires_in_an_evaluation_counts(loop: Loop) -> None:
    def say(key: DrawKey) -> str:
        return "sleep" if key.episode.phase.startswith("eval") and key.episode.task == 0 else "1"

    journal = Journal()
    state = loop.run(say, journal, steps=0, deadline_s=1.0)
    assert journal.series("run/exact") == [False]
    assert state == replace(state, exact=False)


def test_a_resumed_run_stays_inexact(loop: Loop) -> None:
    journal = Journal()
    backbone = loop.backbone(sample_number, journal, steps=2)
    backbone.learner.load_state_dict({"updates": 1})
    state = asyncio.run(backbone.run(LoopState(step=1, drawn=2, exact=False)))
    assert journal.series("run/exact") == [False]
    assert not state.exact
