"""Supervised fine-tuning as a run: the same folder, evaluations and checkpoints as by reward."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from astuner_rl.backbones.config import CheckpointConfig
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.loop import Checkpoints, LoopState, Recorder
from astuner_rl.learning.supervised import (
    SupervisedExample,
    SupervisedLearner,
    length_grouped_batches,
)
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.types import Episode

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedBackbone:
    """Imitates demonstrations, one batch a step."""

    examples: Sequence[SupervisedExample]
    batch_tokens: int
    """Tokens of one step, at most; a longer example is a step alone."""
    evaluator: HeldOutEvaluator
    sampler: Sampler
    learner: SupervisedLearner
    recorder: Recorder
    checkpoints: Checkpoints
    checkpoint: CheckpointConfig
    steps: int
    seed: int

    async def run(self, state: LoopState) -> LoopState:
        """Train from ``state`` up to ``steps`` optimizer steps and return the last state.

        Raises:
            NonFiniteLossError: Loss or gradient is NaN or infinite.
        """
        batches = self._batches()
        if state.step == 0:
            metrics, episodes = await self.evaluator.figures(step=0)
            state = state.having_seen(episodes)
            self.recorder.record(0, metrics | {"run/exact": state.exact}, episodes)
            self.checkpoints.save(state)
        while state.step < self.steps:
            state = await self._step(state, batches[state.step])
        return state

    async def _step(self, state: LoopState, batch: Sequence[SupervisedExample]) -> LoopState:
        started = time.perf_counter()
        report = self.learner.step(batch)
        state = replace(state, step=state.step + 1)
        learned = time.perf_counter()
        metrics: dict[str, float | int | bool] = {
            "loss": report.loss,
            "lr": report.lr,
            "policy/grad_norm": report.grad_norm,
            "tokens/trained": report.target_tokens,
            **report.fed,
            "time/learn_s": learned - started,
            "time/step_s": learned - started,
        }
        episodes: dict[str, Sequence[Episode]] = {}
        if self.evaluator.due(state.step, last_step=self.steps):
            await self.sampler.load_weights(self.learner.weights(), version=state.step)
            scores, episodes = await self.evaluator.figures(step=state.step)
            metrics |= scores
        state = state.having_seen(episodes)
        self.recorder.record(state.step, metrics | {"run/exact": state.exact}, episodes)
        if state.step % self.checkpoint.every == 0 or state.step == self.steps:
            self.checkpoints.save(state)
        return state

    def _batches(self) -> list[list[SupervisedExample]]:
        """Return the batches of all steps: a pure function of seed and examples."""
        lengths = [len(example.token_ids) for example in self.examples]
        batches: list[list[int]] = []
        epoch = 0
        while len(batches) < self.steps:
            batches += length_grouped_batches(
                lengths, batch_tokens=self.batch_tokens, seed=self.seed, epoch=epoch
            )
            epoch += 1
        return [[self.examples[index] for index in batch] for batch in batches[: self.steps]]
