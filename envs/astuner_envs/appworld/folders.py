"""Where the engine and its data lie."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astuner_gym.errors import NotSetUpError, SettingError

_HERE: Final = Path(__file__).parent
ENGINE_SCRIPTS: Final = _HERE / "engine"
OPEN, SEALED = "open", "sealed"
GROUND_TRUTH: Final = "ground_truth"
"""Name of a task's folder with answers and checks."""
SETUP: Final = "run scripts/setup_appworld"


@dataclass(frozen=True, slots=True)
class DataFolders:
    """Two folders as AppWorld lays out its ``data``, with the same tasks."""

    open: Path
    """Without ground truth: all that an executor may read."""
    sealed: Path
    """With it: the evaluator's."""

    @classmethod
    def of_root(cls, root: Path) -> DataFolders:
        """Return those of AppWorld's root folder; the open one is made in the cache if need be.

        Raises:
            SettingError: There are no tasks in it.
        """
        sealed = root.expanduser().absolute() / "data"
        if not (sealed / "tasks").is_dir():
            raise SettingError(
                f"AppWorld's root must hold data/tasks, got {root}; give the folder into which "
                "'appworld download data' wrote, or unset APPWORLD_ROOT for the mini world"
            )
        target = cache_folder() / f"{OPEN}-{_digest(sealed)}"
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial", dir=target.parent))
            try:
                copy_without_ground_truth(sealed, partial / "data")
                (partial / "data").rename(target)
            except OSError as error:
                if not target.is_dir():  # another process may have made it meanwhile
                    raise SettingError(
                        f"AppWorld's data must be copied without ground truth to {target}, got "
                        f"{error}; make room, or set ASTUNER_CACHE to a folder that has it"
                    ) from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return cls(open=target, sealed=sealed)


def _digest(data: Path) -> str:
    """Name what is copied of a folder by its files' times: data made anew are other data."""
    found = hashlib.sha256(str(data).encode())
    for path in sorted(data.rglob("*")):
        within = path.relative_to(data)
        if GROUND_TRUTH in within.parts or not path.is_file():
            continue
        status = path.stat()
        found.update(f"\0{within} {status.st_size} {status.st_mtime_ns}".encode())
    return found.hexdigest()[:16]


def copy_without_ground_truth(sealed: Path, target: Path) -> None:
    """Copy AppWorld's data but for ground truth, by hard links where the file system allows."""

    def link(source: str, copy: str) -> str:
        try:
            os.link(source, copy)
        except OSError:
            shutil.copy2(source, copy)
        return copy

    ignored = shutil.ignore_patterns(GROUND_TRUTH)
    shutil.copytree(sealed, target, ignore=ignored, copy_function=link)


def cache_folder() -> Path:
    """Return where worlds are kept."""
    cache = os.environ.get("ASTUNER_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "astuner") / "appworld"


def mini_world_folder() -> Path:
    """Return where this version's mini world lies, or would."""
    sources = [*sorted((_HERE / "mini").glob("*.py")), ENGINE_SCRIPTS / "build_world.py"]
    text = "\0".join(source.read_text("utf-8") for source in sources)
    return cache_folder() / f"mini-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def mini_world() -> DataFolders:
    """Return the mini world.

    Raises:
        NotSetUpError: It has not been made.
    """
    folder = mini_world_folder()
    if not folder.is_dir():
        raise NotSetUpError(f"env=appworld needs its mini world in {folder}; {SETUP}")
    return DataFolders(open=folder / OPEN / "data", sealed=folder / SEALED / "data")


def engine_python(path: str | None) -> Path:
    """Return the Python that has the engine.

    Raises:
        NotSetUpError: There is none.
    """
    checkout = _HERE.parents[2]
    python = Path(path or checkout / ".venvs" / "appworld" / "bin" / "python").absolute()
    # The sandbox shows folders by their real paths; the program itself stays a link, by which
    # Python finds its environment.
    python = python.parent.resolve() / python.name
    if not python.exists():
        raise NotSetUpError(
            f"env=appworld needs the engine in an environment of its own, there is no {python}; "
            f"{SETUP}, or set env.engine=<its python>"
        )
    return python
