"""Measure a policy on held-out tasks.

``python -m astuner_rl.evaluate run=<folder>`` measures what a run has trained, with its settings;
without a run, ``model=…`` or ``sampler=openai`` names the policy; ``eval.samples=8`` adds pass@k.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from astuner_gym.chat.messages import ChatMessage, ChatRole
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError
from astuner_rl.assembly import build_environment, open_policy
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.metrics import failure_reasons
from astuner_rl.command import run_command
from astuner_rl.config import ExperimentConfig, HfModelConfig
from astuner_rl.errors import RunAbortedError
from astuner_rl.judges import open_judge, with_judge
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.evaluation import Evaluation
from astuner_rl.tracing.intervals import Interval
from astuner_rl.trained import trained_model_folder
from astuner_rl.types import Episode


def main(arguments: Sequence[str]) -> int:
    """Run the command line; see :class:`astuner_rl.command.ExitStatus`."""
    return run_command(evaluate, with_run(arguments), name="evaluate")


def with_run(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``run=<folder>`` written as the settings that it stands for.

    The run's own ``run.dir`` is not taken over: what is written now does not go into that folder.
    """
    written: list[str] = []
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if name == "run" and equals:
            written = [f"run.resume={folder}", "run.dir=null", *written]
        else:
            written.append(argument)
    return written


def of_trained_run(config: ExperimentConfig) -> ExperimentConfig:
    """Return the settings with the model that the named run has trained, if one is named."""
    if config.run.resume is None:
        return config
    folder = trained_model_folder(Path(config.run.resume))
    if isinstance(config.model, HfModelConfig):
        return replace(config, model=replace(config.model, path=str(folder)))
    return replace(config, model=HfModelConfig(path=str(folder)))


def evaluate(config: ExperimentConfig) -> None:
    """Print accuracy, reward and pass@k of every held-out set; the last line is JSON.

    With ``run.dir=<folder>`` the successful episodes are kept there as ``demonstrations.jsonl``,
    which ``algo=sft algo.path=…`` imitates.

    Raises:
        UnusableInputError: There is nothing to measure, or nobody to ask.
        RunAbortedError: Every episode failed.
    """
    logging.getLogger("as").setLevel(logging.ERROR)
    evaluations = asyncio.run(_evaluations(of_trained_run(config)))
    episodes = [episode for each in evaluations.values() for episode in each.episodes]
    if all(each.accuracy() is None for each in evaluations.values()):
        raise RunAbortedError(
            f"at least one episode must reach its end, none of {len(episodes)} did: "
            f"{failure_reasons(episodes)}"
        )
    if config.run.dir is not None:
        _write_demonstrations(Path(config.run.dir), episodes)
    figures = _figures(evaluations, samples=config.eval.samples)
    _print_table(figures)
    print(json.dumps({name: vars_of(interval) for name, interval in figures.items()}))


def vars_of(interval: Interval) -> dict[str, float]:
    """Return an interval as JSON."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


async def _evaluations(config: ExperimentConfig) -> dict[str, Evaluation]:
    with closing(build_environment(config)) as environment:
        if not environment.eval_tasks:
            raise SettingError(
                f"env={config.choices['env']} has no held-out tasks; set env.tasks.eval_path"
            )
        if config.run.dir is not None:
            environment.log_to(Path(config.run.dir) / "services")
        return await _evaluated(config, environment)


async def _evaluated(config: ExperimentConfig, environment: Environment) -> dict[str, Evaluation]:
    async with AsyncExitStack() as stack:
        judge = open_judge(config)
        stack.push_async_callback(judge.close)
        await judge.check()
        environment = with_judge(environment, config, judge.model)
        opened = open_policy(config, environment)
        stack.push_async_callback(opened.close)
        await opened.check()
        runner = EpisodeRunner(environment=environment, policy=opened.policy, config=config.rollout)
        evaluator = HeldOutEvaluator(runner=runner, config=config.eval, seed=config.seed)
        return await evaluator.run(step=0)


def _figures(evaluations: Mapping[str, Evaluation], *, samples: int) -> dict[str, Interval]:
    figures = {}
    for name, evaluation in evaluations.items():
        figures[f"{name}/accuracy"] = evaluation.accuracy()
        figures[f"{name}/scenario_accuracy"] = evaluation.scenario_accuracy()
        figures[f"{name}/reward"] = evaluation.reward()
        k = 2
        while k <= samples:
            figures[f"{name}/pass@{k}"] = evaluation.pass_at(k)
            k *= 2
        figures |= {f"{name}/{figure}": each for figure, each in evaluation.figures().items()}
    return {name: interval for name, interval in figures.items() if interval is not None}


def _print_table(figures: Mapping[str, Interval]) -> None:
    table = Table("figure", "value", "95 % interval")
    for name, interval in figures.items():
        table.add_row(name, f"{interval.mean:.3f}", f"{interval.low:.3f} to {interval.high:.3f}")
    Console().print(table)


def _write_demonstrations(folder: Path, episodes: Sequence[Episode]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demonstrations.jsonl").open("w", encoding="utf-8") as file:
        for episode in episodes:
            if episode.success:
                file.writelines(f"{json.dumps(line)}\n" for line in _conversations(episode))


def _conversations(episode: Episode) -> list[dict[str, object]]:
    """Return each agent's last call with its reply: the whole of what the agent saw and said."""
    last = {record.call.agent: record for record in episode.calls}
    return [
        {
            "messages": [
                *(message_to_openai(message) for message in record.call.messages),
                message_to_openai(
                    ChatMessage(
                        role=ChatRole.ASSISTANT,
                        text=record.reply.text,
                        thinking=record.reply.thinking,
                        tool_calls=record.reply.tool_calls,
                    )
                ),
            ],
            "tools": list(record.call.tools),
        }
        for record in last.values()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
