"""One episode from task to score: what a rollout and a stepped environment both run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agentscope.formatter import FormatterBase

from astuner_gym.chat.messages import Responder
from astuner_gym.chat.model import DEFAULT_CONTEXT_SIZE, EpisodeModels
from astuner_gym.errors import JudgeError, UnusableInputError, WorkflowError
from astuner_gym.judge import Judge, Score
from astuner_gym.task import Task
from astuner_gym.workflow import Workflow, WorkflowResult

_CANCEL_AGAIN_S = 1.0
"""How long a cancelled workflow may tidy up before it is cancelled once more."""


@dataclass(frozen=True, slots=True)
class EpisodeOutcome:
    """A finished episode."""

    result: WorkflowResult
    score: Score


async def run_episode(
    workflow: Workflow,
    judge: Judge,
    task: Task,
    responder: Responder,
    *,
    context_size: int = DEFAULT_CONTEXT_SIZE,
    formatter: FormatterBase | None = None,
) -> EpisodeOutcome:
    """Run the workflow on the task, its calls answered by the responder, and judge the result.

    Args:
        workflow: The agent program.
        judge: Scores the result.
        task: What the agents are asked to do.
        responder: Answers every call.
        context_size: Tokens of context that AgentScope counts on.
        formatter: An AgentScope formatter in place of the one whose prompts extend each other.

    Raises:
        Exception: Whatever the responder raised, unchanged, even if the workflow lived on.
        WorkflowError: The workflow raised, or returned something that is no result.
        JudgeError: The judge raised, or returned something that is no score.
        UnusableInputError: The task's data or a setting is at fault, whoever found it.
    """
    models = EpisodeModels(responder, context_size=context_size, formatter=formatter)
    return await run_episode_with(models, workflow, judge, task)


async def run_episode_with(
    models: EpisodeModels, workflow: Workflow, judge: Judge, task: Task
) -> EpisodeOutcome:
    """Do as :func:`run_episode` with models that the caller has made, and may look into.

    Raises:
        Exception: As :func:`run_episode` does.
    """
    result = await run_workflow(workflow, task, models)
    score = await judge_result(judge, task, result)
    return EpisodeOutcome(result=result, score=score_with_given(score, models))


def score_with_given(score: Score, models: EpisodeModels) -> Score:
    """Return the judge's score with the rewards that the workflow gave.

    Raises:
        JudgeError: The judge has no finite reward for an agent that was given one or left.
    """
    for agent in models.left:
        score.reward(agent)
    return score.with_given(models.given, calls=models.calls)


async def run_workflow(workflow: Workflow, task: Task, models: EpisodeModels) -> WorkflowResult:
    """Run the workflow to its end and close its models.

    Raises:
        Exception: Whatever the responder raised, unchanged, even if the workflow lived on.
        WorkflowError: The workflow raised, or returned something that is no result.
        UnusableInputError: The task's data is at fault.
    """
    try:
        run = asyncio.ensure_future(workflow.run(task, models))
    except UnusableInputError:
        raise
    except Exception as error:  # of a ``run`` that is no coroutine function
        raise WorkflowError(f"workflow raised on task {task.id}: {error!r}") from error
    try:
        # Not ``await run``: AgentScope turns a cancellation into an apology, so a cancelled
        # workflow may return a result as if nothing had happened.
        await asyncio.wait([run])
    except asyncio.CancelledError:
        models.close()
        await _cancel(run)
        raise
    models.close()
    if models.failure is not None:
        _drop_outcome(run)
        raise models.failure
    try:
        result = run.result()
    except (WorkflowError, UnusableInputError):
        raise
    except (Exception, asyncio.CancelledError) as error:  # a user's program may raise anything
        raise WorkflowError(f"workflow raised on task {task.id}: {error!r}") from error
    if not isinstance(result, WorkflowResult):
        raise WorkflowError(
            f"a workflow must return a WorkflowResult, got {result!r} on task {task.id}"
        )
    return result


async def _cancel(run: asyncio.Future[WorkflowResult]) -> None:
    while not run.done():
        run.cancel()
        await asyncio.wait([run], timeout=_CANCEL_AGAIN_S)
    _drop_outcome(run)


def _drop_outcome(run: asyncio.Future[WorkflowResult]) -> None:
    # An exception that nobody asks for is logged by asyncio when the task is collected.
    if not run.cancelled():
        run.exception()


async def judge_result(judge: Judge, task: Task, result: WorkflowResult) -> Score:
    """Score a result.

    Raises:
        JudgeError: The judge raised, or returned something that is no score.
        UnusableInputError: The task's data is at fault.
    """
    try:
        score = await judge.score(task, result)
    except (JudgeError, UnusableInputError):
        raise
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        # Else it is of a task that the judge itself cancelled.
        raise JudgeError(f"judge raised on task {task.id}: {error!r}") from error
    except Exception as error:  # a user's judge may raise anything; it is named and kept
        raise JudgeError(f"judge raised on task {task.id}: {error!r}") from error
    if not isinstance(score, Score):
        raise JudgeError(f"a judge must return a Score, got {score!r} on task {task.id}")
    return score


def is_cancelled() -> bool:
    """Return whether the current task is being cancelled, as a CancelledError alone does not tell.

    Whoever awaits a task that was cancelled gets one, too.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
