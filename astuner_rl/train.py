"""Train an agent: ``python -m astuner_rl.train env=gsm8k algo=grpo``."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    closing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import torch
from rich.console import Console

from astuner_gym.environment import Environment
from astuner_gym.errors import BrokenJudgeError, SettingError
from astuner_rl.algos.call_credit import Credit
from astuner_rl.algos.config import Baseline, Decay, GrpoConfig
from astuner_rl.assembly import (
    OpenOpponent,
    TokenSamplerConfig,
    build_environment,
    build_examples,
    build_pretrained,
    build_renderer,
    check_opponent,
    check_sampler,
    compute_dtype,
    lora_of,
    open_opponent,
    open_policy,
)
from astuner_rl.backbones.checkpoints import Resumable, RunCheckpoints
from astuner_rl.backbones.debug import DebugBackbone
from astuner_rl.backbones.held_out import HeldOutEvaluator
from astuner_rl.backbones.loop import LoopState, TrainingLoop
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.backbones.supervised import SupervisedBackbone
from astuner_rl.command import run_command
from astuner_rl.composition import CONFIG_FILE, config_yaml
from astuner_rl.config import AskingJudgeConfig, DebugBackboneConfig, ExperimentConfig
from astuner_rl.deployment import (
    Backbone,
    Deployment,
    Ingredients,
    LocalDeployment,
    Rollouts,
    learner_ranks,
)
from astuner_rl.errors import BrokenSamplerError, LostProcessError, RunAbortedError
from astuner_rl.judges import OpenJudge, open_judge, with_judge
from astuner_rl.learning.checkpoint import latest_checkpoint
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.supervised import SupervisedConfig, SupervisedLearner
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.runner import Runner
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.vllm import VllmSamplerConfig
from astuner_rl.tracing.atomic_file import write_atomically
from astuner_rl.tracing.journal import RunJournal
from astuner_rl.tracing.metrics import MetricsLog
from astuner_rl.tracing.progress import Progress
from astuner_rl.tracing.report import write_report
from astuner_rl.tracing.run_folder import (
    RunFolder,
    create_run_folder,
    make_run_folder,
    open_run_folder,
)
from astuner_rl.tracing.wandb_logger import LoggerMode, open_logger
from astuner_rl.tracking.training_data import mask_reason

RUNS = Path("runs")
"""Where run folders are made, from the folder in which the command was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunParts:
    """What every way of training shares."""

    runner: Runner
    evaluator: HeldOutEvaluator
    sampler: Sampler
    recorder: RunJournal
    checkpoints: RunCheckpoints


_MakeBackbone: TypeAlias = Callable[[_RunParts], Backbone]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; see :class:`astuner_rl.command.ExitStatus`."""
    return run_command(train, arguments, name="train")


def train(config: ExperimentConfig) -> None:
    """Train, or play the first steps in print under ``backbone=debug``.

    Raises:
        UnusableInputError: Settings or data with which no run can start.
        AstunerError: The run failed; its folder holds the last whole checkpoint.
    """
    # AgentScope warns of every episode that reaches its limit of replies: metrics count them.
    logging.getLogger("as").setLevel(logging.ERROR)
    with closing(build_environment(config)) as environment:
        if isinstance(config.backbone, DebugBackboneConfig):
            asyncio.run(_debug(config, environment))
        else:
            _train(config, environment)


def _train(config: ExperimentConfig, environment: Environment) -> None:
    _check(config)
    torch.set_num_threads(config.backbone.threads)
    with _closed_in_the_end() as resources:
        judge = open_judge(config)
        resources.push_async_callback(judge.close)
        environment = with_judge(environment, config, judge.model)
        asyncio.run(check_opponent(config))
        asyncio.run(judge.check())
        opponent = open_opponent(config)
        if opponent is not None:
            resources.push_async_callback(opponent.close)
        _train_with(config, environment, judge, opponent, resources)


@contextmanager
def _closed_in_the_end() -> Iterator[AsyncExitStack]:
    """Close what a start that failed has opened: in a sweep it would stay for the other runs.

    A run that began closes it itself, in the event loop that made its connections.
    """
    resources = AsyncExitStack()
    try:
        yield resources
    finally:
        asyncio.run(resources.aclose())


def _train_with(
    config: ExperimentConfig,
    environment: Environment,
    judge: OpenJudge,
    opponent: OpenOpponent | None,
    resources: AsyncExitStack,
) -> None:
    """Train, and close ``resources`` when that is done."""
    pretrained = build_pretrained(config.model, environment)
    renderer = build_renderer(pretrained)
    ingredients = Ingredients(
        config=config,
        environment=environment,
        pretrained=pretrained,
        renderer=renderer,
        opponent=opponent,
    )
    with _open_deployment(ingredients) as deployment:
        learner, make_backbone = _prepared(ingredients, deployment)
        folder = _open_folder(config)
        with folder.lock(), _failures_in(folder):
            checkpoints = RunCheckpoints(
                folder=folder.checkpoints,
                save_model=deployment.save_model,
                learner=learner,
                keep=config.checkpoint.keep,
                seed=config.seed,
                config_hash=_config_hash(config, opponent, judge),
                ranks=learner_ranks(config),
            )
            state = checkpoints.restore()
            # Only now: settings with which the run cannot go on must not replace its own.
            write_atomically(folder.path / CONFIG_FILE, config_yaml(config).encode())
            # A run that goes on from step 0 measures its first policy once more.
            folder.rewind(last_step=state.step if state.step > 0 else -1)
            environment.log_to(folder.services)
            try:
                # Samplers take the learner's weights, so they come after those were restored.
                rollouts = deployment.rollouts(
                    policy_version=state.step, service_logs=folder.services
                )
                exact = (
                    rollouts.sampler.exact
                    and rollouts.exact
                    and deployment.exact
                    and (opponent is None or opponent.exact)
                    and judge.exact
                    and not config.overlap.in_flight
                )
                state = replace(state, exact=state.exact and exact)
                # Agents make many short-lived objects; what is loaded by now need not be looked
                # through again with each collection.
                gc.collect()
                gc.freeze()
                _run(
                    config,
                    folder,
                    state,
                    lambda parts: deployment.watched(make_backbone(parts)),
                    rollouts=rollouts,
                    checkpoints=checkpoints,
                    resources=resources,
                )
            except KeyboardInterrupt:
                print(f"go on with run.resume={folder.path}", file=sys.stderr)
                raise
            finally:
                reported = _report(folder, renderer)
    print(f"run: {folder.path}")
    if reported:
        print(f"report: {folder.report}")


def _check(config: ExperimentConfig) -> None:
    """Refuse settings that do not go together, before the first slow step."""
    if not isinstance(config.sampler, TokenSamplerConfig):
        raise SettingError(
            "training needs a sampler that returns tokens and takes new weights, got "
            f"sampler={config.choices['sampler']}; set sampler=transformers, sampler=vllm, or "
            "backbone=debug"
        )
    check_sampler(config)
    if isinstance(config.backbone, RayBackboneConfig):
        _check_ray(config, config.backbone)
    if isinstance(config.algo, SupervisedConfig):
        if config.overlap.max_staleness > 0:
            raise SettingError(
                "overlap.max_staleness must be 0 with algo=sft, which samples nothing to learn "
                f"from, got {config.overlap.max_staleness}; set overlap.max_staleness=0"
            )
    elif config.rollout.temperature == 0:
        raise SettingError(
            "rollout.temperature must be > 0 to learn from what was sampled, got 0.0; "
            "set rollout.temperature=1"
        )


def _check_ray(config: ExperimentConfig, backbone: RayBackboneConfig) -> None:
    if find_spec("ray") is None:
        raise SettingError(
            "backbone=ray needs Ray, which is not installed; install the extra: "
            "pip install '.[ray]' in the checkout"
        )
    if isinstance(config.algo, SupervisedConfig):
        raise SettingError(
            "backbone must be local with algo=sft, which samples nothing to learn from, got "
            "ray; set backbone=local"
        )
    if isinstance(config.sampler, VllmSamplerConfig):
        gpus, needed = backbone.samplers.gpus, config.sampler.tensor_parallel
        shared = gpus < 1 and needed == 1
        if gpus not in (0, needed) and not shared:
            raise SettingError(
                "backbone.samplers.gpus must be sampler.tensor_parallel, a GPU for each of an "
                f"engine's workers, or below 1 where several engines share one, got {gpus:g} for "
                f"{needed}; set backbone.samplers.gpus={needed}"
            )


def _open_deployment(ingredients: Ingredients) -> AbstractContextManager[Deployment]:
    """Return the deployment that ``backbone`` names; what it started ends with the context."""
    if not isinstance(ingredients.config.backbone, RayBackboneConfig):
        return nullcontext(LocalDeployment(ingredients))
    # Only now: Ray may be missing where nobody wants it.
    from astuner_rl.ray_deployment import ray_deployment

    return ray_deployment(ingredients)


@contextmanager
def _failures_in(folder: RunFolder) -> Iterator[None]:
    """Say how to go on after a failure of files, processes or models that the run needs."""
    try:
        yield
    except (LostProcessError, BrokenSamplerError, BrokenJudgeError) as error:
        last = latest_checkpoint(folder.checkpoints)
        kept = "no checkpoint yet" if last is None else f"{last.name}, which is whole"
        raise RunAbortedError(f"{error}; the run kept {kept}: {_way_on(folder)}") from error
    except OSError as error:  # what users and servers raise has been named before it gets here
        raise RunAbortedError(
            f"{folder.path}: a run must be able to read and write its files, {error}; what it kept "
            f"before is whole: mend the cause and {_way_on(folder)}"
        ) from error


def _way_on(folder: RunFolder) -> str:
    """Return how to go on; a run that has not written its settings has done nothing to keep."""
    if not folder.config.is_file():
        return "give the command again"
    return f"go on with run.resume={folder.path}"


def _report(folder: RunFolder, renderer: ChatRenderer) -> bool:
    """Write the run's report and return whether that went well."""
    try:
        write_report(folder, decode=renderer.codec.decode_each)
    except Exception as error:  # whatever it is, it must not hide how the run itself ended
        print(f"warning: {folder.report} could not be written: {error!r}", file=sys.stderr)
        return False
    return True


def _run(
    config: ExperimentConfig,
    folder: RunFolder,
    state: LoopState,
    make_backbone: _MakeBackbone,
    *,
    rollouts: Rollouts,
    checkpoints: RunCheckpoints,
    resources: AsyncExitStack,
) -> None:
    progress = Progress(
        first_step=state.step,
        last_step=config.train.steps,
        console=Console(stderr=True),
        now=time.monotonic,
    )
    logger = open_logger(
        folder,
        mode=LoggerMode(config.logger.mode),
        project=config.logger.project,
        config=dataclasses.asdict(config),
        group=config.logger.group,
    )
    failed = True
    try:
        with progress, MetricsLog(folder.metrics) as metrics:
            parts = _RunParts(
                runner=rollouts.runner,
                evaluator=HeldOutEvaluator(
                    runner=rollouts.runner, config=config.eval, seed=config.seed
                ),
                sampler=rollouts.sampler,
                recorder=RunJournal(
                    folder=folder,
                    metrics=metrics,
                    logger=logger,
                    progress=progress,
                    masked_because=partial(mask_reason, trainable=config.env.trainable),
                ),
                checkpoints=checkpoints,
            )
            asyncio.run(_until_closed(make_backbone(parts), state, rollouts, resources))
        failed = False
    finally:
        logger.close(failed=failed)


async def _until_closed(
    backbone: Backbone, state: LoopState, rollouts: Rollouts, resources: AsyncExitStack
) -> None:
    async with resources:
        resources.push_async_callback(rollouts.close)
        await backbone.run(state)


def _prepared(ingredients: Ingredients, deployment: Deployment) -> tuple[Resumable, _MakeBackbone]:
    """Return the learner that the algorithm names, and the backbone that feeds it."""
    if isinstance(ingredients.config.algo, SupervisedConfig):
        return _imitation(ingredients)
    return _reward(ingredients.config, deployment.learner())


def _reward(config: ExperimentConfig, learner: Learner) -> tuple[Resumable, _MakeBackbone]:
    """Return the learner that trains by reward, and the backbone that feeds it."""

    def make(parts: _RunParts) -> TrainingLoop:
        return TrainingLoop(
            runner=parts.runner,
            evaluator=parts.evaluator,
            sampler=parts.sampler,
            learner=learner,
            recorder=parts.recorder,
            checkpoints=parts.checkpoints,
            train=config.train,
            checkpoint=config.checkpoint,
            overlap=config.overlap,
            seed=config.seed,
            trainable=config.env.trainable,
        )

    return learner, make


def _imitation(ingredients: Ingredients) -> tuple[Resumable, _MakeBackbone]:
    """Return the learner that imitates, and the backbone that feeds it."""
    config = ingredients.config
    algo = config.algo
    assert isinstance(algo, SupervisedConfig)
    if lora_of(config.model) is not None:
        raise SettingError(
            f"model.lora_rank must be 0 with algo=sft, got {config.model.lora_rank}; set "
            "model.lora_rank=0"
        )
    examples = build_examples(algo, ingredients.environment, ingredients.renderer)
    learner = SupervisedLearner(
        ingredients.pretrained.model,
        algo,
        total_steps=config.train.steps,
        dtype=compute_dtype(config.model),
    )

    def make(parts: _RunParts) -> SupervisedBackbone:
        return SupervisedBackbone(
            examples=examples,
            batch_tokens=algo.batch_tokens,
            evaluator=parts.evaluator,
            sampler=parts.sampler,
            learner=learner,
            recorder=parts.recorder,
            checkpoints=parts.checkpoints,
            checkpoint=config.checkpoint,
            steps=config.train.steps,
            seed=config.seed,
        )

    return learner, make


async def _debug(config: ExperimentConfig, environment: Environment) -> None:
    async with AsyncExitStack() as closing:
        judge = open_judge(config)
        closing.push_async_callback(judge.close)
        await judge.check()
        opened = open_policy(config, environment)
        closing.push_async_callback(opened.close)
        await opened.check()
        backbone = DebugBackbone(
            runner=EpisodeRunner(
                environment=with_judge(environment, config, judge.model),
                policy=opened.policy,
                config=replace(config.rollout, concurrency=1),
            ),
            train=config.train,
            seed=config.seed,
            trainable=config.env.trainable,
            scale_by_std=_scale_of_group_advantages(config),
            decode_each=opened.decode_each,
            write=print,
        )
        await backbone.run()


def _scale_of_group_advantages(config: ExperimentConfig) -> bool | None:
    """Return ``algo.scale_by_std`` where advantages come from their group's rewards alone."""
    algo = config.algo
    if (
        isinstance(algo, GrpoConfig)
        and algo.baseline == Baseline.GROUP
        and algo.credit == Credit.EPISODE
        and algo.overlong_tokens == 0
    ):
        return algo.scale_by_std
    return None


def _open_folder(config: ExperimentConfig) -> RunFolder:
    if config.run.resume is not None:
        return open_run_folder(Path(config.run.resume), cwd=Path.cwd())
    if config.run.dir is not None:
        return make_run_folder(Path(config.run.dir), cwd=Path.cwd())
    return create_run_folder(
        RUNS,
        cwd=Path.cwd(),
        env=config.choices["env"],
        algo=config.choices["algo"],
        seed=config.seed,
        started=datetime.now(),
    )


def _config_hash(config: ExperimentConfig, opponent: OpenOpponent | None, judge: OpenJudge) -> str:
    """Name the settings that the bits of a run depend on; the others may change on resume."""
    settings = dataclasses.asdict(config)
    exact = {
        name: settings[name]
        for name in ("env", "algo", "model", "judge", "opponent", "overlap", "seed")
    }
    # Where the parts are is of no account to the bits, so a run may be moved.
    exact["backbone"] = {"threads": config.backbone.threads}
    if opponent is not None:
        exact["opponent_weights"] = opponent.fingerprint
    if isinstance(config.judge, AskingJudgeConfig):
        for name in config.judge.whereabouts:
            del exact["judge"][name]
        exact["judge_weights"] = judge.fingerprint
    exact["context_length"] = settings["sampler"]["context_length"]
    exact["train"] = [config.train.groups, config.train.group_size, config.train.most_draws]
    exact["rollout"] = [config.rollout.params, config.rollout.max_calls, config.rollout.attempts]
    if config.algo.decay != Decay.CONSTANT:
        exact["steps"] = config.train.steps  # the learning rate falls towards the last step
    text = json.dumps(exact, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
