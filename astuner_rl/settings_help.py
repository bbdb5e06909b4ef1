"""The help text: every group with its options, every setting with its value and its docstring."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Final

from omegaconf import MISSING, DictConfig, OmegaConf

from astuner_rl.composition import compose_settings, group_options

USAGES: Final[Mapping[str, str]] = {
    "train": """\
usage: astuner train [key=value ...]

  astuner train env=gsm8k algo=grpo train.steps=20
  astuner train --multirun seed=0,1,2 algo=grpo,ppo
  astuner train run.resume=<run folder>

""",
    "evaluate": """\
usage: astuner evaluate [run=<run folder>] [key=value ...]

  astuner evaluate run=<run folder> eval.samples=8
  astuner evaluate env=gsm8k model=hf model.path=<hub id or folder>

  run=<run folder>     measure what the run has trained, with its settings but for those given
""",
    "play": """\
usage: astuner play [run=<run folder>] [key=value ...]

  astuner play run=<run folder>
  astuner play env=gsm8k model=hf model.path=<hub id or folder>

  run=<run folder>     ask what the run has trained, with its settings but for those given
""",
    "replay": """\
usage: astuner replay run=<run folder>

  run=<run folder>     the run, of which weights and log are compared
""",
    "rescore": """\
usage: astuner rescore run=<run folder> judge=<option> [judge.key=value ...]

  astuner rescore run=<run folder> judge=function judge.function=my_judge.py:score
  astuner rescore --help judge=llm

  run=<run folder>     the run whose episodes are judged anew
  judge=<option>       the other judge
""",
}
"""How each command is called, by its name; ``FLAGS`` go on from there."""
FLAGS: Final = """\
  -m, --multirun       run one job for each combination of comma-separated values
  --config-dir DIR     look for further options in DIR, laid out as conf/ is
  --cfg job            print the settings as config.yaml holds them, and run nothing
  -h, --help           this text, with the settings of the options named beside it
"""


def settings_help(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    command: str,
    judge: Sequence[str] = (),
) -> str:
    """Return the help text of ``command``, with the settings of the options in ``overrides``.

    Args:
        overrides: As on the command line.
        config_dirs: Folders of further options.
        command: One of those in ``USAGES``.
        judge: Overrides of a judge that is composed apart from them, as ``rescore`` does.

    Raises:
        SettingError: The overrides are malformed or name what does not exist.
    """
    composed, choices = compose_settings(overrides, config_dirs=config_dirs)
    if judge:
        other, chosen = compose_settings(judge, config_dirs=config_dirs)
        composed.judge, choices["judge"] = other.judge, chosen["judge"]
    lines = [USAGES[command] + FLAGS, "Options (the one chosen is in brackets):"]
    for group, options in group_options(config_dirs=config_dirs).items():
        names = [f"[{name}]" if name == choices[group] else name for name in options]
        lines.append(f"  {group}={' '.join(names)}")
    lines += ["", "Settings:", *_settings(composed)]
    return "\n".join(lines)


def field_docs(schema: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, by the field's name.

    A field without one is left out; a subclass overrides its base.
    """
    docs: dict[str, str] = {}
    for each in reversed(schema.__mro__):
        if is_dataclass(each):
            docs |= _own_field_docs(each)
    return docs


def _own_field_docs(schema: type) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = " ".join(text.split())
    return docs


def _settings(node: DictConfig, prefix: str = "") -> Iterator[str]:
    schema = OmegaConf.get_type(node)
    docs = field_docs(schema) if is_dataclass(schema) else {}
    values = OmegaConf.to_container(node)
    assert isinstance(values, dict)
    for name, value in ((str(key), value) for key, value in values.items()):
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _settings(node[name], f"{key}.")
        else:
            yield f"  {key}={_shown(value)}"
            yield from textwrap.wrap(
                docs.get(name, ""), width=96, initial_indent=" " * 8, subsequent_indent=" " * 8
            )


def _shown(value: object) -> str:
    if value == MISSING:
        return "(must be set)"
    return "null" if value is None else str(value)
