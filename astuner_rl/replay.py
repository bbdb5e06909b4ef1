"""Train a run again from its log, to prove that its weights come from what it recorded.

``python -m astuner_rl.replay run=<folder>`` begins with the run's initial weights, gives its
learner the recorded tokens of every step, samples nothing, and compares weights and optimizer with
every checkpoint that the run kept, bit for bit. So it can be asked of runs that a second run of the
same seed need not repeat: those in which sampling and learning overlapped, or whose sampler is not
exact.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from astuner_gym.errors import SettingError, UnusableInputError
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.assembly import build_environment, build_pretrained
from astuner_rl.command import run_command
from astuner_rl.config import ExperimentConfig
from astuner_rl.deployment import learner_ranks, make_learner
from astuner_rl.errors import ReplayError
from astuner_rl.evaluate import with_run
from astuner_rl.learning.checkpoint import checkpoint_folders, load_checkpoint
from astuner_rl.learning.learner import Learner
from astuner_rl.learning.pretrained import Pretrained
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.tracing.run_folder import open_run_folder
from astuner_rl.tracking.training_data import training_data
from astuner_rl.types import Episode, Group


def main(arguments: Sequence[str]) -> int:
    """Run the command line; see :class:`astuner_rl.command.ExitStatus`."""
    return run_command(replay, with_run(arguments), name="replay")


def replay(config: ExperimentConfig) -> None:
    """Replay the run that ``run=`` names, and print how it compares with each checkpoint.

    Raises:
        UnusableInputError: There is no such run, or its log or checkpoints are not whole.
        ReplayError: The weights are others.
    """
    if config.run.resume is None:
        raise SettingError("replay needs a run; give it run=<folder>")
    if not isinstance(config.algo, GrpoConfig | PpoConfig):
        raise SettingError(
            f"replay is of what agents sampled, but a run with algo={config.choices['algo']} "
            "samples nothing to learn from; name a run that learns by reward"
        )
    folder = open_run_folder(Path(config.run.resume), cwd=Path.cwd())
    paths = checkpoint_folders(folder.checkpoints)
    checkpoints = {load_checkpoint(path).meta.step: path for path in paths}
    if not checkpoints:
        raise UnusableInputError(
            f"{folder.path}: a replay is compared with checkpoints, and this run has none"
        )
    torch.set_num_threads(config.backbone.threads)
    pretrained = build_pretrained(config.model, build_environment(config))
    with _open_learner(config, pretrained) as learner:
        for step in range(max(checkpoints) + 1):
            if step > 0:
                path = folder.episode_file(phase="train", step=step)
                groups = _groups([logged.episode for logged in read_episodes(path)])
                learner.update(training_data(groups, trainable=config.env.trainable).agent_episodes)
            if step in checkpoints:
                recorded = load_checkpoint(checkpoints[step]).state["learner"]
                difference = _difference(learner.state_dict(), recorded)
                if difference:
                    raise ReplayError(
                        f"{checkpoints[step]}: the weights must follow from the recorded episodes, "
                        f"but {difference}; was the run made on another machine, with other "
                        "versions or numbers of ranks, or its log altered?"
                    )
                print(f"step {step}: weights and optimizer are the checkpoint's, bit for bit")


def _open_learner(
    config: ExperimentConfig, pretrained: Pretrained
) -> AbstractContextManager[Learner]:
    """Return a learner that sums as the run's did: in this process, or on as many ranks."""
    if learner_ranks(config) == 1:
        return nullcontext(make_learner(config, pretrained))
    # Only now: Ray may be missing where nobody wants it.
    from astuner_rl.ray_deployment import ray_learner

    return ray_learner(config, pretrained)


def _groups(episodes: Sequence[Episode]) -> list[Group]:
    """Return the groups of a step's episodes, which were written in their order."""
    by_task = itertools.groupby(episodes, key=lambda episode: episode.key.task)
    groups = [tuple(group) for _, group in by_task]
    return [Group(task_id=group[0].task_id, episodes=group) for group in groups]


def _difference(state: object, recorded: object, name: str = "learner") -> str:
    """Return the first place where two states differ, as text; empty where they do not."""
    match state, recorded:
        case Tensor(), Tensor():
            return _tensor_difference(state.cpu(), recorded.cpu(), name)
        case Mapping(), Mapping():
            return _parts_difference(dict(state), dict(recorded), name)
        case ((list() | tuple() as own), (list() | tuple() as others)):
            return _parts_difference(dict(enumerate(own)), dict(enumerate(others)), name)
        case _:
            return "" if state == recorded else f"{name} is {state!r}, not {recorded!r}"


def _parts_difference(
    state: Mapping[object, object], recorded: Mapping[object, object], name: str
) -> str:
    if state.keys() != recorded.keys():
        return f"{name} has other entries"
    parts = (_difference(state[key], recorded[key], f"{name}.{key}") for key in state)
    return next(filter(None, parts), "")


def _tensor_difference(state: Tensor, recorded: Tensor, name: str) -> str:
    if state.shape != recorded.shape:
        return f"{name} has shape {tuple(state.shape)}, not {tuple(recorded.shape)}"
    if torch.equal(state, recorded):
        return ""
    gap = (state.double() - recorded.double()).abs().max().item()
    return f"{name} differs by up to {gap:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
