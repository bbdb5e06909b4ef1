"""The token-level log: every episode of a step, one JSON object a line, gzip-compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from astuner_gym.errors import UnusableInputError
from astuner_rl.tracing.atomic_file import write_atomically
from astuner_rl.tracing.episode_json import LoggedEpisode, decode_episode, encode_episode


def write_episodes(path: Path, episodes: Iterable[LoggedEpisode]) -> None:
    """Write a log whole or not at all; the same episodes give the same bytes.

    Args:
        path: Replaced if it exists; compressed if its name ends in ``.gz``.
        episodes: In the order in which they are to be read.

    Raises:
        OSError: The disk is full or the folder is not writable; an earlier log stays as it was.
    """
    lines = [
        json.dumps(encode_episode(episode), allow_nan=False, separators=(",", ":")) + "\n"
        for episode in episodes
    ]
    content = "".join(lines).encode("ascii")
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)  # no clock in the bytes
    write_atomically(path, content)


def read_episodes(path: Path) -> Iterator[LoggedEpisode]:
    """Yield the episodes of a log in order, as they were written.

    Raises:
        UnusableInputError: The file is absent or damaged; the message names file and line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                number += 1
                yield decode_episode(json.loads(line))
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise UnusableInputError(
            f"{path}:{number}: an episode log must be as it was written: {error!r}"
        ) from error
