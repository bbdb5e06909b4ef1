"""Talk to a trained agent: ``python -m astuner_rl.play run=<folder>``.

Each line that is typed becomes a task, in the first text field of a record or as the environment
says; the agent's calls are shown as they come. It ends with the input.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from astuner_gym.chat.messages import ChatCall, ChatReply, ChatRole
from astuner_gym.chat.model import EpisodeModels
from astuner_gym.environment import Environment
from astuner_gym.episode import run_workflow
from astuner_gym.errors import AstunerError
from astuner_gym.task import JsonValue, Task
from astuner_gym.typed import Exchange, TypedField
from astuner_gym.workflow import WorkflowResult
from astuner_rl.assembly import OpenPolicy, build_environment, open_policy
from astuner_rl.command import run_command
from astuner_rl.config import ExperimentConfig
from astuner_rl.evaluate import of_trained_run, with_run
from astuner_rl.tracking.tracker import TrackedResponder
from astuner_rl.types import EpisodeKey


def main(arguments: Sequence[str]) -> int:
    """Run the command line; see :class:`astuner_rl.command.ExitStatus`."""
    return run_command(play, with_run(arguments), name="play")


def play(config: ExperimentConfig) -> None:
    """Read tasks from standard input and print what the agents do with them, greedily.

    Raises:
        UnusableInputError: There is no such run or environment, or nobody to ask.
    """
    logging.getLogger("as").setLevel(logging.ERROR)
    config = of_trained_run(config)
    with closing(build_environment(config)) as environment:
        _play(config, environment)


def _play(config: ExperimentConfig, environment: Environment) -> None:
    typed = environment.typed or _first_text_field(environment.train_tasks[0].record)
    earlier: list[Exchange] = []
    opened = open_policy(config, environment)
    # The loop runs only while an agent is at work: at the prompt, Ctrl-C ends the program at once.
    with asyncio.Runner() as loop:
        try:
            loop.run(_check(opened))
            for number, line in enumerate(_lines(typed.prompt)):
                task = Task(id=f"typed-{number}", record=typed.record(earlier, line))
                result = loop.run(_answer(config, environment, opened, task, number=number))
                if result is not None:
                    earlier.append(Exchange(line, result.output))
        finally:
            loop.run(_close(opened))


async def _check(opened: OpenPolicy) -> None:
    await opened.check()


async def _close(opened: OpenPolicy) -> None:
    await opened.close()


def _first_text_field(record: Mapping[str, JsonValue]) -> TypedField:
    field = next((name for name, value in record.items() if isinstance(value, str)), "task")
    return TypedField(prompt=field, pattern=record)


def _lines(prompt: str) -> Iterator[str]:
    """Yield the lines of standard input that say something."""
    while True:
        print(f"{prompt}> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            print()
            return
        if line.strip():
            yield line.strip()


async def _answer(
    config: ExperimentConfig,
    environment: Environment,
    opened: OpenPolicy,
    task: Task,
    *,
    number: int,
) -> WorkflowResult | None:
    """Return the workflow's result; None if it failed, which is shown."""
    responder = opened.policy.open(
        EpisodeKey(phase="play", step=0, task=number, sample=0),
        params=replace(config.rollout.params, temperature=0.0),
        max_calls=config.rollout.max_calls,
    )
    try:
        return await run_workflow(
            environment.workflow, task, EpisodeModels(_PrintingResponder(responder))
        )
    except AstunerError as error:
        print(f"  failed: {str(error)!r}")
        return None
    finally:
        responder.release()


class _PrintingResponder:
    """Shows each call's tool results and reply, escaped: they are untrusted text."""

    def __init__(self, inner: TrackedResponder) -> None:
        self._inner = inner

    async def respond(self, call: ChatCall) -> ChatReply:
        """Show what came back from tools, ask, and show the reply."""
        for message in reversed(call.messages):
            if message.role is not ChatRole.TOOL:
                break
            print(f"  {message.name!r} → {message.text!r}")
        reply = await self._inner.respond(call)
        if reply.thinking:
            print(f"  {call.agent} thinks: {reply.thinking!r}")
        if reply.text:
            print(f"  {call.agent}: {reply.text!r}")
        for tool_call in reply.tool_calls:
            print(f"  {call.agent} calls {tool_call.name!r} {tool_call.arguments!r}")
        return reply


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
