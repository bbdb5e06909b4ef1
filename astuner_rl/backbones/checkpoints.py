"""A run's checkpoints: what goes into one, and how a run goes on from the last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from astuner_gym.errors import UnusableInputError
from astuner_rl.backbones.loop import LoopState
from astuner_rl.errors import CheckpointError
from astuner_rl.learning.checkpoint import (
    CheckpointMeta,
    checkpoint_folders,
    clean_checkpoints,
    drop_checkpoints_after,
    keep_newest,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from astuner_rl.learning.lora import AdapterWeights, save_adapters
from astuner_rl.processor import processor
from astuner_rl.rollout.batches import BatchAhead
from astuner_rl.tracing.episode_json import LoggedEpisode, decode_episode, encode_episode

VERSIONED = ("astuner", "agentscope", "numpy", "tokenizers", "torch", "transformers")
"""Packages that the bits of a run depend on."""


ADAPTER = "adapter"
"""Folder of a checkpoint with what LoRA has trained."""


class Resumable(Protocol):
    """What a checkpoint holds besides the model's folder: a learner."""

    def adapters(self) -> AdapterWeights | None:
        """Return what is trained in place of all weights; None if all are trained."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that an exact resume needs."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCheckpoints:
    """Saves and restores one run."""

    folder: Path
    save_model: Callable[[Path], None]
    """Writes the learner's weights and the tokenizer as a Hugging Face folder."""
    learner: Resumable
    keep: int
    """How many of the newest stay."""
    seed: int
    config_hash: str
    """Of the settings that the bits of the run depend on."""
    ranks: int = 1
    """How many processes learn together: bits depend on it, but a run may change it."""

    def save(self, state: LoopState) -> None:
        """Write a checkpoint and delete those that are too many.

        Raises:
            CheckpointError: It could not be written; earlier ones are whole.
        """
        save_checkpoint(
            self.folder,
            save_model=self._save_whole,
            state={
                "learner": self.learner.state_dict(),
                "drawn": state.drawn,
                "exact": state.exact,
                "ranks": self.ranks,
                "processor": processor(),
                "ahead": [_encode_batch(batch) for batch in state.ahead],
            },
            meta=CheckpointMeta(
                step=state.step,
                seed=self.seed,
                versions={name: version(name) for name in VERSIONED},
                config_hash=self.config_hash,
            ),
        )
        keep_newest(self.folder, count=self.keep)

    def _save_whole(self, folder: Path) -> None:
        """Write the Hugging Face folder, and beside it the adapters that it was merged with."""
        self.save_model(folder)
        adapters = self.learner.adapters()
        if adapters is not None:
            (folder.parent / ADAPTER).mkdir()
            save_adapters(adapters, folder.parent / ADAPTER)

    def restore(self) -> LoopState:
        """Load the last whole checkpoint into the learner and drop what came after it.

        A run that ended before its first checkpoint starts again. One that goes on with other
        ranks or on another processor is not exact from here.

        Raises:
            UnusableInputError: It is of other settings or other versions of the packages, so that
                it cannot be gone on with bit for bit.
            CheckpointError: It cannot be read, or there are checkpoints and none of them is whole.
        """
        clean_checkpoints(self.folder)
        path = latest_checkpoint(self.folder)
        if path is None:
            # To start again would delete the logs, from which weights can be replayed.
            if damaged := checkpoint_folders(self.folder):
                raise CheckpointError(
                    f"{self.folder}: a run resumes from a whole checkpoint, and each of "
                    f"{[each.name for each in damaged]} is damaged, as said above; mend one, or "
                    "move them elsewhere to start the run again from its first step"
                )
            return LoopState(step=0, drawn=0, exact=True)
        checkpoint = load_checkpoint(path)
        if checkpoint.meta.config_hash != self.config_hash:
            raise UnusableInputError(
                f"{path}: a run resumes with its own env, algo, model, judge, opponent, overlap, "
                "seed, rollout, train.groups, group_size and most_draws and "
                "sampler.context_length, and where the learning rate falls with its train.steps, "
                "got others; leave them out, or start a "
                f"new run with model=hf model.path={checkpoint.model}"
            )
        installed = {name: version(name) for name in VERSIONED}
        if dict(checkpoint.meta.versions) != installed:
            raise UnusableInputError(
                f"{path}: a run resumes with the versions that wrote its checkpoint, "
                f"{dict(checkpoint.meta.versions)}, got {installed}; install those, or start a new "
                f"run with model=hf model.path={checkpoint.model}"
            )
        learner_state, drawn = checkpoint.state["learner"], checkpoint.state["drawn"]
        # Runs of earlier versions kept no batches: they never sampled ahead.
        ahead = checkpoint.state.get("ahead", [])
        # Written by ``save``.
        assert isinstance(learner_state, dict)
        assert isinstance(drawn, int)
        assert isinstance(ahead, list)
        self.learner.load_state_dict(learner_state)
        same_ranks = checkpoint.state.get("ranks", 1) == self.ranks
        # Runs of earlier versions kept no processor: nothing tells that theirs was another.
        same_processor = checkpoint.state.get("processor", processor()) == processor()
        step = checkpoint.meta.step
        drop_checkpoints_after(self.folder, last_step=step)
        return LoopState(
            step=step,
            drawn=drawn,
            exact=bool(checkpoint.state["exact"]) and same_ranks and same_processor,
            ahead=tuple(map(_decode_batch, ahead)),
        )


def _encode_batch(batch: BatchAhead) -> dict[str, Any]:
    episodes = [
        LoggedEpisode(episode=episode, masked=(None,) * len(episode.calls))
        for episode in batch.episodes
    ]
    return {
        "step": batch.step,
        "starts": list(batch.starts),
        "episodes": [json.dumps(encode_episode(episode)) for episode in episodes],
    }


def _decode_batch(fields: Mapping[str, Any]) -> BatchAhead:
    return BatchAhead(
        step=fields["step"],
        starts=tuple(fields["starts"]),
        episodes=tuple(
            decode_episode(json.loads(episode)).episode for episode in fields["episodes"]
        ),
    )
