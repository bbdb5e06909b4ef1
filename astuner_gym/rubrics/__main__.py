"""``python -m astuner_gym.rubrics learn examples.jsonl``: a rubric from labelled examples.

Exit status 0 if a rubric was written, 1 if none was learnt, 2 if the input cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astuner_gym.errors import AstunerError, SettingError, UnusableInputError
from astuner_gym.judging.endpoint import ChatEndpoint, EndpointConfig
from astuner_gym.judging.rubric import rubric_yaml
from astuner_gym.rubrics.examples import Examples, read_examples
from astuner_gym.rubrics.learning import Learned, LearningSettings, learn
from astuner_gym.settings import known_settings, make_settings, split_settings


@dataclass
class OutputConfig:
    """What the command writes."""

    out: str = "rubric.yaml"
    """File of the rubric; there must be none yet, since people edit them."""


GROUPS: Final = {"judge": EndpointConfig, "learn": LearningSettings, "": OutputConfig}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _learn(Path(options.examples), options.settings)
    except AstunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnusableInputError) else 1


def _learn(path: Path, arguments: Sequence[str]) -> int:
    values = split_settings(arguments, GROUPS)
    endpoint = make_settings(EndpointConfig, values["judge"], group="judge")
    settings = make_settings(LearningSettings, values["learn"], group="learn")
    out = _new_file(Path(make_settings(OutputConfig, values[""], group="").out))
    examples = read_examples(path)
    if examples.left_out:
        print(f"{examples.left_out} examples contradict others and are left out")
    if examples.repeated:
        print(f"{examples.repeated} examples repeat others and are left out")
    print(f"{len(examples.examples)} {examples.kind} examples")
    learned = asyncio.run(_ask(examples, endpoint, settings))
    print(
        f"agreement with labels that were not learnt from, 95 % interval:\n"
        f"           {'accuracy':22}  {learned.after.measure}"
    )
    for name, agreed in (("before", learned.before), ("after", learned.after)):
        print(f"  {name:8} {agreed.accuracy!s:22}  {agreed.beyond_chance}")
    if not learned.improved:
        print(
            f"no rubric: none of {learned.asked} criteria agrees better than a plain question",
            file=sys.stderr,
        )
        return 1
    text = rubric_yaml(learned.rubric, notes=_notes(learned, examples))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(text)  # what has been paid for is not lost
        print(f"error: the rubric above could not be written: {error}", file=sys.stderr)
        return 1
    print(f"rubric: {out}\nuse it: judge=rubric judge.path={out}")
    return 0


def _new_file(path: Path) -> Path:
    """Return where a file can be made, found out before anything is paid for."""
    if path.exists():
        raise SettingError(
            f"out must be a file that is not there yet, got {path}; remove it or set out=<file>"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out must be in a folder that can be made: {error}") from error
    return path


async def _ask(examples: Examples, config: EndpointConfig, settings: LearningSettings) -> Learned:
    endpoint = ChatEndpoint(config)
    try:
        await endpoint.check()
        return await learn(examples, endpoint, settings, say=print)
    finally:
        await endpoint.close()


def _notes(learned: Learned, examples: Examples) -> dict[str, object]:
    """Return what the file says about where the rubric comes from."""
    return {
        "learned": {
            "labels": str(examples.kind),
            "examples": len(examples.examples),
            "agreement": {
                name: {
                    "accuracy": str(agreed.accuracy),
                    agreed.measure: str(agreed.beyond_chance),
                }
                for name, agreed in (("before", learned.before), ("after", learned.after))
            },
        }
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m astuner_gym.rubrics")
    command = parser.add_subparsers(required=True, metavar="learn").add_parser(
        "learn",
        help="learn a rubric from labelled examples",
        epilog=f"Settings: {', '.join(known_settings(GROUPS))}. "
        "judge.base_url and judge.model must be set.",
    )
    command.add_argument(
        "examples", help='JSONL of {"question", "answer", "score"} or {"question", "ranked": […]}'
    )
    command.add_argument(
        "settings", nargs="*", metavar="key=value", help="as for training, such as judge.model=m"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
