"""Measuring the policy in the course of training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from astuner_rl.backbones.config import EvalConfig
from astuner_rl.rollout.evaluation import Evaluation, evaluate
from astuner_rl.rollout.runner import Runner
from astuner_rl.types import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutEvaluator:
    """Evaluates the policy of ``runner`` on every held-out set of its environment."""

    runner: Runner
    config: EvalConfig
    seed: int

    def due(self, step: int, *, last_step: int) -> bool:
        """Return whether the policy is measured after ``step`` updates."""
        every = self.config.every
        return step in (0, last_step) or (every > 0 and step % every == 0)

    async def run(self, *, step: int) -> dict[str, Evaluation]:
        """Return an evaluation by the name of the set; the first set is the headline."""
        params = replace(self.runner.config.params, temperature=self.config.temperature)
        evaluations = {}
        for name, source in self.runner.environment.eval_tasks.items():
            count = min(self.config.tasks or len(source), len(source))
            evaluations[name] = await evaluate(
                self.runner,
                [source[index] for index in range(count)],
                name=name,
                step=step,
                samples=self.config.samples,
                params=params,
                seed=self.seed,
            )
        return evaluations

    async def figures(
        self, *, step: int
    ) -> tuple[dict[str, float | int | bool], dict[str, Sequence[Episode]]]:
        """Return an evaluation's figures, and its episodes by phase, as a run records them."""
        started = time.perf_counter()
        metrics: dict[str, float | int | bool] = {}
        episodes: dict[str, Sequence[Episode]] = {}
        for position, (name, evaluation) in enumerate((await self.run(step=step)).items()):
            metrics |= evaluation.metrics("eval" if position == 0 else f"eval/{name}")
            episodes[f"eval/{name}"] = evaluation.episodes
        metrics["time/eval_s"] = time.perf_counter() - started
        return metrics, episodes
