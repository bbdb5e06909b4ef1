"""Paths in settings, absolute, so that a run resumed from another folder finds the same files."""

from __future__ import annotations

from pathlib import Path

from astuner_gym.errors import SettingError


def absolute(path: str | None) -> str | None:
    """Return a path as it is seen from every folder; ``~`` is the home folder."""
    return None if path is None else str(Path(path).expanduser().absolute())


def split_reference(key: str, reference: str) -> tuple[Path, str]:
    """Return the file, by its absolute path, and the name that ``path.py:Name`` holds.

    Args:
        key: The setting, for messages.
        reference: As the user wrote it.

    Raises:
        SettingError: It is written otherwise.
    """
    path, colon, name = reference.rpartition(":")
    if not colon or not path.endswith(".py") or not name.isidentifier():
        raise SettingError(
            f"{key} must be written path.py:Name, got {reference!r}; "
            f"set {key}=my_agent.py:MyWorkflow, say"
        )
    return Path(path).expanduser().absolute(), name


def absolute_reference(key: str, reference: str) -> str:
    """Return ``path.py:Name`` with the absolute path of its file.

    Raises:
        SettingError: It is written otherwise.
    """
    path, name = split_reference(key, reference)
    return f"{path}:{name}"
