"""The training loop: collect, learn, hand over the weights, record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from astuner_rl.backbones.config import CheckpointConfig, OverlapConfig, TrainConfig
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.metrics import failure_reasons, rollout_metrics, staleness_metrics
from astuner_rl.errors import RunAbortedError
from astuner_rl.learning.learner import Learner
from astuner_rl.rollout.batches import BatchAhead, BatchSettings, BatchStream
from astuner_rl.rollout.runner import Runner
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.tracking.training_data import training_data
from astuner_rl.types import Episode, EpisodeStatus

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """All that the loop itself carries from step to step."""

    step: int
    """Updates done."""
    drawn: int
    """Tasks drawn for training so far, by batches ahead too."""
    exact: bool
    """False once something happened that a second run of the same seed need not repeat."""
    ahead: tuple[BatchAhead, ...] = ()
    """Batches that were started and not trained on."""

    def having_seen(self, episodes: Mapping[str, Sequence[Episode]]) -> LoopState:
        """Return the state, not exact if one of the episodes failed by chance.

        An attempt that did and was repeated changes no token: the next one draws the same.
        """
        by_chance = any(episode.by_chance for played in episodes.values() for episode in played)
        return replace(self, exact=self.exact and not by_chance)


class Recorder(Protocol):
    """Keeps what a step produced; when ``record`` returns, it is on the disk."""

    def record(
        self,
        step: int,
        metrics: Mapping[str, float | int | bool],
        episodes: Mapping[str, Sequence[Episode]],
    ) -> None:
        """Keep the figures of ``step`` and its episodes by phase."""
        ...


class Checkpoints(Protocol):
    """Keeps what an exact resume needs."""

    def save(self, state: LoopState) -> None:
        """Write learner and loop, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoop:
    """Collect, learn, hand over the weights, record; what runs where is its parts' affair."""

    runner: Runner
    evaluator: HeldOutEvaluator
    sampler: Sampler
    learner: Learner
    recorder: Recorder
    checkpoints: Checkpoints
    train: TrainConfig
    checkpoint: CheckpointConfig
    overlap: OverlapConfig
    seed: int
    trainable: Sequence[str] | None
    """Roles that learn; None for all."""

    async def run(self, state: LoopState) -> LoopState:
        """Train from ``state`` up to ``train.steps`` updates and return the last state.

        Raises:
            RunAbortedError: Nothing of a step can be trained on.
            NonFiniteLossError: Loss or gradient is NaN or infinite.
        """
        if self.learner.adapters() is not None:
            # From now on the sampler gets adapters alone, and must know what they are added to.
            await self.sampler.load_weights(self.learner.handover(whole=True), version=state.step)
        ahead = range(state.step, min(state.step + self.overlap.max_staleness, self.train.steps))
        if state.step > 0 and not {*ahead} <= {batch.step for batch in state.ahead}:
            # It had come to its end, where nothing was sampled ahead, and is made longer.
            state = replace(state, exact=False)
        if state.step == 0:
            LOG.debug("phase evaluate 0")
            metrics, episodes = await self.evaluator.figures(step=0)
            state = state.having_seen(episodes)
            LOG.debug("phase record 0")
            self.recorder.record(0, metrics | {"run/exact": state.exact}, episodes)
            LOG.debug("phase checkpoint 0")
            self.checkpoints.save(state)
        settings = BatchSettings(
            steps=self.train.steps,
            groups=self.train.groups,
            group_size=self.train.group_size,
            most_draws=self.train.most_draws,
            max_staleness=self.overlap.max_staleness,
            seed=self.seed,
            trainable=self.trainable,
            interleaved=self.overlap.in_flight,
        )
        # A thread of its own, since episodes are played while it learns and writes; and always the
        # same one, because with several intra-op threads the learner's bits depend on them.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="astuner-step") as thread:
            async with BatchStream(
                self.runner, settings, step=state.step, drawn=state.drawn, ahead=state.ahead
            ) as batches:
                while state.step < self.train.steps:
                    state = await self._step(state, batches, thread)
                LOG.debug("phase close %d", state.step)
        return state

    async def _step(self, state: LoopState, batches: BatchStream, thread: Executor) -> LoopState:
        LOG.debug("phase rollout %d", state.step)
        started = time.perf_counter()
        batches.policy_is_at(state.step)
        drawn = await batches.take(state.step)
        collected = time.perf_counter()
        groups = (*drawn.used, *drawn.unused)
        episodes = [episode for group in drawn.used for episode in group.episodes]
        data = training_data(drawn.used, trainable=self.trainable, unused=drawn.unused)
        if not data.agent_episodes:
            raise RunAbortedError(
                f"step {state.step + 1}: at least one episode must reach its end and hold a call "
                f"of a trained role, none of {len(episodes)} did: "
                f"{_why_nothing_learns(episodes, trainable=self.trainable)}"
            )
        LOG.debug("phase learn %d", state.step)
        loop = asyncio.get_running_loop()
        report = await loop.run_in_executor(thread, self.learner.update, data.agent_episodes)
        learned = time.perf_counter()
        if not self.overlap.in_flight:
            await batches.ended()
        ready = time.perf_counter()
        await self.sampler.load_weights(
            self.learner.handover(whole=False),
            version=report.updates,
            in_flight=self.overlap.in_flight,
        )
        updated = time.perf_counter()
        metrics: dict[str, float | int | bool] = {
            **rollout_metrics(groups, data, trainable=self.trainable),
            **staleness_metrics(episodes, version=state.step),
            **report.metrics,
            "time/rollout_s": collected - started + ready - learned,
            "time/learn_s": learned - collected + updated - ready,
            "time/step_s": updated - started,
        }
        state = replace(state, step=state.step + 1)
        if self.overlap.max_staleness > 0:
            # Synchronous runs measure and record before they go on; these do so meanwhile.
            batches.policy_is_at(state.step)
        logged: dict[str, Sequence[Episode]] = {"train": episodes}
        if drawn.unused:
            logged["unused"] = [episode for group in drawn.unused for episode in group.episodes]
        if self.evaluator.due(state.step, last_step=self.train.steps):
            LOG.debug("phase evaluate %d", state.step)
            scores, evaluated = await self.evaluator.figures(step=state.step)
            metrics |= scores
            logged |= evaluated
        state = state.having_seen(logged)
        LOG.debug("phase record %d", state.step)
        metrics["run/exact"] = state.exact
        await loop.run_in_executor(thread, self.recorder.record, state.step, metrics, logged)
        state = replace(state, drawn=batches.drawn, ahead=batches.ahead)
        if state.step % self.checkpoint.every == 0 or state.step == self.train.steps:
            LOG.debug("phase checkpoint %d", state.step)
            await loop.run_in_executor(thread, self.checkpoints.save, state)
        return state


def _why_nothing_learns(episodes: Sequence[Episode], *, trainable: Sequence[str] | None) -> str:
    """Return why no episode of a step is trained on: which roles were asked, and what failed."""
    reasons = failure_reasons(episodes)
    ended = [episode for episode in episodes if episode.status is not EpisodeStatus.FAILED]
    asked = sorted({record.call.role for episode in ended for record in episode.calls})
    if not ended or trainable is None or not {*asked}.isdisjoint(trainable):
        return reasons
    # An opponent's calls are not those of the policy, and are not seen here.
    seen = f"only in {', '.join(asked)}" if asked else "in no role"
    remedy = (
        f"set env.trainable=[{asked[0]}], say, or null to train all"
        if asked
        else "name a role that a model plays"
    )
    unknown = (
        f"env.trainable is [{', '.join(trainable)}], and the policy was asked {seen}; {remedy}"
    )
    return f"{unknown}; {reasons}" if reasons else unknown
