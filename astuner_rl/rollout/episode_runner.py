"""One episode: the workflow run, judged, retried, and closed, whatever happens inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from astuner_gym.chat.model import EpisodeModels
from astuner_gym.environment import Environment
from astuner_gym.episode import judge_result, run_episode_with, score_with_given
from astuner_gym.errors import (
    BrokenJudgeError,
    EpisodeLimitError,
    JudgeError,
    ServiceError,
    WorkflowError,
)
from astuner_gym.judge import GivenReward, Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult
from astuner_rl.errors import (
    BrokenSamplerError,
    ContextOverflowError,
    NonFiniteLogitsError,
    RenderingError,
    SamplerError,
)
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.rejudging import kept_result
from astuner_rl.tracking.tracker import Policy, TrackedResponder
from astuner_rl.types import Episode, EpisodeKey, EpisodeStatus, SamplingParams

DEADLINE_REASON = "deadline"
"""Start of the reason of an episode that ran out of wall-clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRunner:
    """Runs episodes of one environment with one policy."""

    environment: Environment
    policy: Policy
    config: RolloutConfig

    async def run(self, task: Task, key: EpisodeKey, *, params: SamplingParams) -> Episode:
        """Run one episode; never raises for what goes wrong inside it.

        A failure of workflow, judge or sampler is tried again up to ``config.attempts`` times; a
        deadline that fired is not. What fails is returned with status FAILED and its reason.

        Raises:
            UnusableInputError: The task's data or a setting is at fault.
            BrokenSamplerError: The policy's sampler cannot answer anybody any more.
            NonFiniteLogitsError: Nor could any other, with the policy's weights.
            BrokenJudgeError: The judge can score nothing any more.
        """
        attempt = 1
        while True:
            episode = await self._attempt(task, key, params=params, attempt=attempt)
            if episode.status is not EpisodeStatus.FAILED or attempt >= self.config.attempts:
                return episode
            # Another attempt might be in time, but then nothing would show that this was not.
            if episode.reason.startswith(DEADLINE_REASON):
                return episode
            attempt += 1

    async def _attempt(
        self, task: Task, key: EpisodeKey, *, params: SamplingParams, attempt: int
    ) -> Episode:
        responder = self.policy.open(key, params=params, max_calls=self.config.max_calls)
        try:
            async with asyncio.timeout(self.config.deadline_s):
                result, score, calls, given = await self._judged(task, responder)
                # An opponent's calls are not among the records: its agents earn nothing here.
                agents = dict.fromkeys(record.call.agent for record in responder.records)
                rewards = {agent: score.reward(agent) for agent in agents}
                call_rewards = {
                    agent: earned
                    for agent, earned in score.rewards_by_call(calls=calls).items()
                    if agent in agents
                }
        except TimeoutError:
            reason = (
                f"{DEADLINE_REASON}: an episode may take {self.config.deadline_s} s "
                "(rollout.deadline_s)"
            )
            return self._failed(
                task, key, responder, reason=reason, by_chance=True, attempt=attempt
            )
        except (BrokenSamplerError, NonFiniteLogitsError, BrokenJudgeError):
            # No later episode can fare better. If each failed, a batch would be trained without
            # those that were in flight; a run that ends plays them again when it is resumed.
            raise
        except (WorkflowError, JudgeError, SamplerError, RenderingError) as error:
            reason = f"{type(error).__name__}: {error}"
            return self._failed(
                task,
                key,
                responder,
                reason=reason,
                by_chance=_is_of_a_service(error),
                attempt=attempt,
            )
        finally:
            responder.release()
        metrics = {f"workflow/{name}": value for name, value in result.metrics.items()}
        metrics |= {f"judge/{name}": value for name, value in score.metrics.items()}
        return Episode(
            key=key,
            task_id=task.id,
            calls=responder.records,
            status=EpisodeStatus.TRUNCATED if result.truncated else EpisodeStatus.COMPLETED,
            reason="a limit of the workflow or of rollout.max_calls" if result.truncated else "",
            rewards=rewards,
            call_rewards=call_rewards,
            success=score.success,
            metrics=metrics,
            result=kept_result(result),
            given=tuple(gift for gift in given if gift.agent in agents),
            attempts=attempt,
        )

    async def _judged(
        self, task: Task, responder: TrackedResponder
    ) -> tuple[WorkflowResult, Score, Mapping[str, int], Sequence[GivenReward]]:
        """Return result, score, how many calls of each agent were answered, and what was given."""
        workflow, judge = self.environment.workflow, self.environment.judge
        models = EpisodeModels(responder)
        try:
            outcome = await run_episode_with(models, workflow, judge, task)
        except EpisodeLimitError as error:
            if isinstance(error, ContextOverflowError) and not responder.records:
                raise  # not even the first prompt fits: there is nothing to judge or to learn from
            # The episode used up its budget of calls or of context: it is judged as it stands.
            result = WorkflowResult(output=None, truncated=True)
            score = await judge_result(judge, task, result)
            return result, score_with_given(score, models), models.calls, models.given
        return outcome.result, outcome.score, models.calls, models.given

    @staticmethod
    def _failed(
        task: Task,
        key: EpisodeKey,
        responder: TrackedResponder,
        *,
        reason: str,
        by_chance: bool,
        attempt: int,
    ) -> Episode:
        return Episode(
            key=key,
            task_id=task.id,
            calls=responder.records,
            status=EpisodeStatus.FAILED,
            reason=reason,
            by_chance=by_chance,
            attempts=attempt,
        )


def _is_of_a_service(error: BaseException | None) -> bool:
    """Return whether a service failed; workflows and judges may give that another name."""
    while error is not None and not isinstance(error, ServiceError):
        error = error.__cause__
    return error is not None
