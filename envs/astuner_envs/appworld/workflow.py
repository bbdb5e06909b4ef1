"""The agent: an AgentScope agent that writes code, and the world in which it is executed."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import Final

import httpx
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import UserMsg

from astuner_envs.appworld.exploits import attempts
from astuner_envs.appworld.outcome import Outcome
from astuner_envs.appworld.world import WORLD_ENDED, World, WorldError, evaluate
from astuner_gym.errors import EpisodeLimitError, WorkflowError
from astuner_gym.services.pool import ServicePool
from astuner_gym.task import Task
from astuner_gym.workflow import Models, WorkflowResult

AGENT: Final = "coder"
SYSTEM_PROMPT: Final = "Do the task with Python. Reply with code that uses apis."
NO_CODE: Final = "Reply with code."
LARGEST_OUTPUT: Final = 2000
"""Characters of an execution's output that the agent is shown."""
_BLOCK: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def code_of(reply: str) -> str:
    """Return the code of a reply: its first fenced block, or all of it if it has none.

    An unclosed block goes on to the end. Example: ``Now:`` and a fenced ``print(1)`` give
    ``print(1)``.
    """
    block = _BLOCK.search(reply)
    return (block.group(1) if block else reply).strip()


def shown(output: str) -> str:
    """Return what the agent is shown of an output: its beginning if it is long.

    Example: 2,500 characters are cut to 2,000, and the next line says how many were left out.
    """
    output = output.strip()
    if len(output) <= LARGEST_OUTPUT:
        return output
    left_out = len(output) - LARGEST_OUTPUT
    return f"{output[:LARGEST_OUTPUT]}\n({left_out} characters left out)"


def person_line(name: str, email: str, phone_number: str) -> str:
    """Return who asks, with what the person logs into apps with."""
    return f"{name} ({email}, {phone_number})"


def first_message(task: Task) -> str:
    """Return what the agent is told first: who asks, and for what."""
    return f"{task.text('person')}: {task.text('instruction')}"


class AppWorldWorkflow:
    """One agent, one task, at most ``max_turns`` executions.

    A world is leased from the first execution on. At the end its changes are handed to the
    evaluator, which is another process that the world's code can neither read nor call. An episode
    whose agent does not come to its end, by ``max_turns`` or another limit, is worth what it has
    changed by then.
    """

    def __init__(self, *, executors: ServicePool, evaluators: ServicePool, max_turns: int) -> None:
        """Use these services, which start with the first episode."""
        self._executors = executors
        self._evaluators = evaluators
        self._max_turns = max_turns

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Let the agent work; the output is an :class:`Outcome` as JSON.

        Raises:
            WorkflowError: The engine failed. What an agent's code does to its own world is no
                failure.
            ServiceLostError: The service ended during the episode.
        """
        agent = Agent(
            name=AGENT,
            system_prompt=SYSTEM_PROMPT,
            model=models[AGENT],
            # The injected state holds the time of day, which no two runs share.
            injection_config=InjectionConfig(inject_runtime_state=False),
        )
        flags: dict[str, None] = {}
        executions = 0
        completed = limited = False
        async with AsyncExitStack() as leases:
            world = World(
                task.text("task_id"),
                lease=lambda: leases.enter_async_context(self._executors.lease()),
            )
            try:
                message = first_message(task)
                while executions < self._max_turns and not completed and not world.ended:
                    try:
                        reply = await agent.reply(UserMsg(name="user", content=message))
                    except EpisodeLimitError:
                        models.accept_limit()
                        limited = True
                        break
                    code = code_of(reply.get_text_content() or "")
                    executions += 1
                    if not code:
                        message = NO_CODE
                        continue
                    flags |= dict.fromkeys(attempts(code))
                    message = shown(await world.execute(code)) or WORLD_ENDED
                    completed = await world.completed()
                changes = None if world.ended else await world.changes()
                flags |= dict.fromkeys(await world.alarms())
            except WorldError as error:
                raise WorkflowError(str(error)) from error
            except httpx.HTTPError as error:
                # The pool finds out whether the service is gone, and says so by name.
                raise WorkflowError(
                    f"the executor of {task.id} did not answer: {error!r}"
                ) from error
        if world.ended:
            flags["the world was ended by its own code"] = None
        checks = None
        if changes is not None:
            async with self._evaluators.lease() as evaluator:
                try:
                    checks = await evaluate(evaluator, task.text("task_id"), changes)
                except (WorldError, httpx.HTTPError) as error:
                    raise WorkflowError(f"{task.id} could not be evaluated: {error}") from error
            if checks is None:
                flags["changes that no world leads to"] = None
        outcome = Outcome(
            completed=completed, executions=executions, checks=checks, flags=tuple(flags)
        )
        # Never truncated: the state that was reached is paid for in full, however it was ended.
        return WorkflowResult(
            output=outcome.to_json(),
            metrics={
                "executions": float(executions),
                "flags": float(len(flags)),
                "limited": float(limited),
            },
        )
