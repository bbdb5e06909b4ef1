"""A run as one web page: curves, settings, and episodes token by token.

The page loads nothing and runs nothing. What a model wrote is escaped by the template, and a
content security policy stands behind that: it admits this page's own style sheet, by its hash, and
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Final

import yaml
from jinja2 import Environment, StrictUndefined, Template

from astuner_gym.errors import UnusableInputError
from astuner_gym.task import JsonValue
from astuner_rl.tracing.atomic_file import write_atomically
from astuner_rl.tracing.curves import FRAME, Curve, Drawing, curves_of, draw, number
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.tracing.metrics import MetricsLine, read_metrics
from astuner_rl.tracing.redaction import redact
from astuner_rl.tracing.run_folder import RunFolder
from astuner_rl.tracing.token_view import Decode, EpisodeView, view_episode

HEADLINES: Final = (
    "reward/mean",
    "eval/accuracy",
    "eval/reward",
    "policy/entropy",
    "policy/kl",
    "policy/kl_sampler",
    "policy/grad_norm",
    "tokens/sampled",
    "time/step_s",
)
"""Figures whose curves come first; the others follow, folded up."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of the whole run."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class EpisodeSet:
    """Some episodes of one log."""

    heading: str
    episodes: tuple[EpisodeView, ...]


def write_report(folder: RunFolder, *, decode: Decode, examples: int = 4) -> Path:
    """Write ``report.html`` from what the run folder holds, and return its path.

    A run that has only begun, or failed at once, has a report too.

    Args:
        folder: The run.
        decode: Text of each token.
        examples: Episodes shown of each of the first and the last step, from the lowest to the
            highest reward.

    Raises:
        UnusableInputError: A file of the run is damaged; the message names it.
        OSError: The report cannot be written.
    """
    lines = read_metrics(folder.metrics)
    style = _resource("report.css")
    page = _template().render(
        title=folder.path.name,
        day=folder.path.parent.name,
        style=style,
        style_hash=_csp_hash(style),
        frame=FRAME,
        tiles=_tiles(lines),
        headlines=_drawings(lines, headlines=True),
        further=_drawings(lines, headlines=False),
        settings=list(_flatten(redact(_settings(folder.config)))),
        episode_sets=_episode_sets(folder, decode=decode, examples=examples),
    )
    # A lone surrogate has no UTF-8; as a character reference it shows as a replacement character.
    write_atomically(folder.report, page.encode("utf-8", errors="xmlcharrefreplace"))
    return folder.report


def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("report.html.j2"))


def _resource(name: str) -> str:
    return resources.files("astuner_rl.tracing").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _drawings(lines: Sequence[MetricsLine], *, headlines: bool) -> list[Drawing]:
    def position(curve: Curve) -> int:
        return HEADLINES.index(curve.name) if curve.name in HEADLINES else len(HEADLINES)

    curves = sorted(curves_of(lines), key=lambda curve: (position(curve), curve.name))
    return [draw(curve) for curve in curves if (curve.name in HEADLINES) == headlines]


def _tiles(lines: Sequence[MetricsLine]) -> list[Tile]:
    curves = {curve.name: curve.points for curve in curves_of(lines)}
    tiles = [Tile("steps", f"{lines[-1].step:,}", "")] if lines else []
    for name in ("reward/mean", "eval/accuracy", "eval/reward"):
        if name in curves:
            first, last = curves[name][0], curves[name][-1]
            interval = (
                f", 95 % interval {number(last.low)} to {number(last.high)}"
                if last.low is not None and last.high is not None
                else ""
            )
            tiles.append(Tile(name, number(last.value), f"from {number(first.value)}{interval}"))
    if "tokens/sampled" in curves:
        total = sum(point.value for point in curves["tokens/sampled"])
        tiles.append(Tile("tokens sampled", number(total), "over all steps"))
    if "time/step_s" in curves:
        seconds = round(sum(point.value for point in curves["time/step_s"]))
        tiles.append(Tile("time", str(timedelta(seconds=seconds)), "over all steps"))
    exact = [line.values["run/exact"] for line in lines if "run/exact" in line.values]
    if exact:
        tiles.append(
            Tile("run/exact", "yes" if all(exact) else "no", "repeats bit for bit from its seed")
        )
    return tiles


def _settings(path: Path) -> Mapping[str, JsonValue]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnusableInputError(f"{path}: settings must be readable YAML: {error}") from error
    return settings if isinstance(settings, dict) else {}


def _flatten(settings: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)


def _episode_sets(folder: RunFolder, *, decode: Decode, examples: int) -> list[EpisodeSet]:
    logs = folder.episode_files()
    sets = []
    for path in dict.fromkeys([logs[-1], logs[0]] if logs else []):
        episodes = list(read_episodes(path))
        chosen = _spread(sorted(episodes, key=_mean_reward), examples)
        sets.append(
            EpisodeSet(
                f"{path.name.partition('.')[0]}: {len(chosen)} of {len(episodes)}",
                tuple(view_episode(episode, decode=decode) for episode in chosen),
            )
        )
    return sets


def _mean_reward(logged: LoggedEpisode) -> float:
    rewards = logged.episode.rewards.values()
    return sum(rewards) / len(rewards) if rewards else float("-inf")


def _spread(episodes: Sequence[LoggedEpisode], count: int) -> list[LoggedEpisode]:
    """Return ``count`` episodes at even distances, the first and the last among them."""
    if len(episodes) <= count:
        return list(episodes)
    gaps = max(count - 1, 1)
    return [episodes[index * (len(episodes) - 1) // gaps] for index in range(count)]
