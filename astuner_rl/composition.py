"""From command-line overrides to a checked experiment, and back to a file that composes to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from itertools import product
from pathlib import Path
from typing import Final

import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from astuner_gym.environment import ENTRY_POINT_GROUP
from astuner_gym.errors import SettingError
from astuner_gym.yaml_text import yaml_text
from astuner_rl.algos.config import GrpoConfig, PpoConfig
from astuner_rl.backbones.ray.config import RayBackboneConfig
from astuner_rl.config import (
    ComposedJudgeConfig,
    DebugBackboneConfig,
    EnvJudgeConfig,
    ExperimentConfig,
    FunctionJudgeConfig,
    HfModelConfig,
    HfOpponentConfig,
    LlmJudgeConfig,
    LocalBackboneConfig,
    LoggerConfig,
    NoOpponentConfig,
    OpenAIOpponentConfig,
    OpenAISamplerConfig,
    RubricJudgeConfig,
    ScriptedSamplerConfig,
)
from astuner_rl.custom import CustomEnvConfig
from astuner_rl.learning.supervised import SupervisedConfig
from astuner_rl.learning.tiny import TinyConfig
from astuner_rl.refusals import not_an_option, refusal, unknown_setting
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.samplers.vllm import VllmSamplerConfig

CONFIG_FILE: Final = "config.yaml"
"""Where a run folder keeps its settings."""

_DEFAULTS: Final = "experiment"
"""The file of conf/ that a new run starts from."""
_RESUMED: Final = "resumed_experiment"
"""Starts from config.yaml instead; Hydra finds it in the run folder, on its search path."""
_MAPPINGS: Final = ("judge.parts.", "judge.parts=")
"""Settings below which the user chooses the names."""
_INTERPOLATION: Final = re.compile(r"(\\*)\$\{")
_HOME: Final = re.compile(r"(?:^|(?<=[,\[:])\s*)~[^,\[\]{}]*")
"""A value, or one of a list or mapping, that begins with ``~``."""
_OF_ENVIRONMENT: Final = {
    "build": "def build(self)",
    "trainable": "trainable: list[str] | None = None",
}
"""What is asked of an environment's settings, and how it is declared."""

# What the files of conf/ build on: ``/schema/<group>/<name>``.
SCHEMAS: Final[Mapping[str, Mapping[str, type]]] = {
    "env": {"custom": CustomEnvConfig},
    "algo": {"grpo": GrpoConfig, "ppo": PpoConfig, "sft": SupervisedConfig},
    "model": {"tiny": TinyConfig, "hf": HfModelConfig},
    "sampler": {
        "transformers": TransformersSamplerConfig,
        "vllm": VllmSamplerConfig,
        "openai": OpenAISamplerConfig,
        "scripted": ScriptedSamplerConfig,
    },
    "backbone": {
        "local": LocalBackboneConfig,
        "ray": RayBackboneConfig,
        "debug": DebugBackboneConfig,
    },
    "judge": {
        "env": EnvJudgeConfig,
        "function": FunctionJudgeConfig,
        "llm": LlmJudgeConfig,
        "rubric": RubricJudgeConfig,
        "composed": ComposedJudgeConfig,
    },
    "opponent": {
        "none": NoOpponentConfig,
        "hf": HfOpponentConfig,
        "openai": OpenAIOpponentConfig,
    },
    "logger": {"wandb": LoggerConfig},
}


def compose_experiment(
    overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()
) -> ExperimentConfig:
    """Compose and check one experiment.

    With ``run.resume=<folder>`` it starts from the settings of that run instead of the defaults.

    Args:
        overrides: As on the command line: ``env=gsm8k``, ``train.steps=20``, …
        config_dirs: Folders of further options, laid out as ``conf/`` is.

    Raises:
        SettingError: The overrides are malformed, name what does not exist, or break a rule.
    """
    composed, choices = compose_settings(overrides, config_dirs=config_dirs)
    try:
        config = OmegaConf.to_object(composed)  # each dataclass checks its values
    except OmegaConfBaseException as error:
        raise refusal(error, known=()) from error
    assert isinstance(config, ExperimentConfig)
    config.choices = choices
    return config


def compose_settings(
    overrides: Sequence[str], *, config_dirs: Sequence[Path] = ()
) -> tuple[DictConfig, dict[str, str]]:
    """Compose an experiment without checking its values, some of which may be missing yet.

    Returns:
        The settings, typed by their dataclasses, and the option chosen in each group.

    Raises:
        SettingError: The overrides are malformed, name what does not exist, or have a wrong type.
    """
    overrides = [*map(_with_quoted_home, overrides)]
    resumed = _resumed_folder(overrides)
    primary = _DEFAULTS if resumed is None else _RESUMED
    folders = [*config_dirs, *([] if resumed is None else [resumed])]
    search_path = _search_path(folders)
    with _hydra():
        parsed = _parse(overrides)
        kept = {} if resumed is None else _choices_of(resumed)
        for override in parsed:
            _check_form(override, config_dirs=config_dirs)
            _check_kept(override, kept=kept)
        # The settings that there are with these options, for what a refusal suggests.
        chosen = [search_path, *(each.input_line or "" for each in parsed if _is_choice(each))]
        try:
            asked = [search_path, *map(_with_plus, overrides)]
            composed = compose(primary, asked, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise refusal(error, known=_known_keys(primary, chosen)) from error
        choices = {group: composed.hydra.runtime.choices[group] for group in SCHEMAS}
        with flag_override(composed, ["struct", "readonly"], False):
            del composed["hydra"]
        for key in _undeclared(composed):
            raise unknown_setting(key, known=_known_keys(primary, chosen))
        return composed, choices


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job of a sweep: ``seed=0,1 algo=grpo,ppo`` are four jobs.

    Raises:
        SettingError: An override is malformed, or its values cannot be listed.
    """
    with _hydra():
        parsed = _parse([*map(_with_quoted_home, overrides)])
        return [list(job) for job in product(*map(_values, parsed))]


def group_options(*, config_dirs: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Return the names that each Hydra group offers."""
    with _hydra():
        return {group: _options(group, config_dirs=config_dirs) for group in SCHEMAS}


def config_yaml(config: ExperimentConfig) -> str:
    """Return a file that composes to ``config``: its groups' options and then every value."""
    options = [{group: option} for group, option in config.choices.items()]
    defaults = {"defaults": ["experiment_schema", *options, "_self_"]}
    parts = (defaults, _literal(config))
    return "".join(map(yaml_text, parts))


@contextmanager
def _hydra() -> Iterator[None]:
    _register()
    with initialize_config_module("astuner_rl.conf", version_base="1.3", job_name="astuner"):
        yield


def _register() -> None:
    """Put every dataclass where the files of conf/ and the command line find it."""
    store = ConfigStore.instance()
    store.store(name="experiment_schema", node=ExperimentConfig)
    resumed_from = CONFIG_FILE.removesuffix(".yaml")
    store.store(name=_RESUMED, node={"defaults": [resumed_from, "_self_"]})
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        store.store(group="env", name=point.name, node=_loaded(point))


def _loaded(point: EntryPoint) -> type:
    try:
        schema = point.load()
    except Exception as error:  # an installed package may raise anything while it is imported
        raise SettingError(
            f"environment {point.name!r} ({point.value}) cannot be imported: "
            f"{type(error).__name__}: {error}; mend or uninstall its package"
        ) from error
    if not (isinstance(schema, type) and is_dataclass(schema)):
        raise SettingError(
            f"environment {point.name!r} ({point.value}) must name a dataclass of settings, "
            f"got {schema!r}; mend or uninstall its package"
        )
    # A field without a default is no attribute of its class.
    has = {*dir(schema), *(each.name for each in fields(schema))}
    if missing := [name for name in _OF_ENVIRONMENT if name not in has]:
        raise SettingError(
            f"environment {point.name!r} ({point.value}) must have build() and a setting "
            f"trainable, {schema.__name__} lacks {' and '.join(missing)}; add "
            f"{' and '.join(repr(_OF_ENVIRONMENT[name]) for name in missing)} to it, or uninstall "
            "its package"
        )
    return schema


def _parse(overrides: Sequence[str]) -> list[Override]:
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None
    try:
        return OverridesParser.create(loader).parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise SettingError(
            f"cannot read {error.override!r}: settings are written key=value, and a value that "
            "holds a comma, a bracket, a tilde or a space is quoted twice: \"key='a, b'\""
        ) from error


def _check_form(override: Override, *, config_dirs: Sequence[Path]) -> None:
    key = override.key_or_group
    if override.is_delete():
        raise SettingError(f"settings cannot be deleted, got {override.input_line!r}; leave it out")
    if override.is_sweep_override():
        raise SettingError(
            f"{key} takes one value, got {override.input_line!r}; "
            f"add --multirun for a job each, or write {key}=[a,b] for a list"
        )
    if _is_choice(override):
        options = _options(key, config_dirs=config_dirs)
        if override.value() not in options:
            raise not_an_option(key, str(override.value()), options=options)


def _check_kept(override: Override, *, kept: Mapping[str, str]) -> None:
    """Refuse an option other than the resumed run's, ``kept``: its settings are of another kind."""
    group = override.key_or_group
    if group in kept and override.value() != kept[group]:
        raise SettingError(
            f"a resumed run keeps {group}={kept[group]}, got {override.input_line!r}; leave it "
            "out, or start a new run with model=hf model.path=<checkpoint>/hf"
        )


def _choices_of(folder: Path) -> dict[str, str]:
    """Return the option of each group in the settings of a run, as ``config_yaml`` wrote them."""
    path = folder / CONFIG_FILE
    try:
        defaults = yaml.safe_load(path.read_text("utf-8"))["defaults"]
        choices = [choice for choice in defaults if isinstance(choice, dict)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingError(
            f"{path} must be as the run wrote it, got {error!r}; name another run folder"
        ) from error
    return {group: option for choice in choices for group, option in choice.items()}


def _with_plus(override: str) -> str:
    """Return an override of a named part as Hydra wants new keys of a mapping to be written."""
    return f"++{override}" if override.startswith(_MAPPINGS) else override


def _with_quoted_home(override: str) -> str:
    """Return an override with paths below the home folder in quotes, as Hydra wants a ``~``.

    A shell leaves the ``~`` of ``key=~/x`` to its commands. What is quoted already stays.
    """
    key, equals, value = override.partition("=")
    if not equals or "'" in value or '"' in value or "${" in value:
        return override
    return f"{key}={_HOME.sub(_in_quotes, value)}"


def _in_quotes(path: re.Match[str]) -> str:
    return f"'{path.group().strip()}'"


def _is_choice(override: Override) -> bool:
    return override.key_or_group in SCHEMAS


def _options(group: str, *, config_dirs: Sequence[Path]) -> list[str]:
    installed = GlobalHydra.instance().config_loader().get_group_options(group)
    added = [file.stem for folder in config_dirs for file in (folder / group).glob("*.yaml")]
    return sorted({*installed, *added})


def _values(override: Override) -> list[str]:
    """Return the overrides that a sweep over ``override`` runs with, one a job."""
    if not override.is_sweep_override():
        assert override.input_line is not None
        return [override.input_line]
    key = override.get_key_element()
    values = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    if not values:
        raise SettingError(
            f"{override.input_line!r} names no values to sweep over; "
            f"write {key}=a,b or {key}=range(1,4)"
        )
    return [f"{key}={value}" for value in values]


def _known_keys(primary: str, overrides: Sequence[str]) -> list[str]:
    try:
        return _keys(compose(primary, list(overrides)))
    except (HydraException, OmegaConfBaseException):
        return []  # the chosen options do not compose: that is the error to report


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Return the dotted keys of all settings in ``node``, in order."""
    keys = []
    for name in map(str, node):
        child = _child(node, name)
        keys += _keys(child, f"{prefix}{name}.") if child else [f"{prefix}{name}"]
    return keys


def _undeclared(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the keys that ``+key=value`` put beside a dataclass's own fields."""
    declared = OmegaConf.get_type(node)
    for name in map(str, node):
        if is_dataclass(declared) and name not in {each.name for each in fields(declared)}:
            yield f"{prefix}{name}"
        elif child := _child(node, name):
            yield from _undeclared(child, f"{prefix}{name}.")


def _child(node: DictConfig, name: str) -> DictConfig | None:
    if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
        return None
    child = node[name]
    return child if isinstance(child, DictConfig) else None


def _resumed_folder(overrides: Sequence[str]) -> Path | None:
    folder = None
    for override in _parse(overrides):
        if override.key_or_group == "run.resume" and override.value() is not None:
            folder = Path(str(override.value())).expanduser().absolute()
    if folder is not None and not (folder / CONFIG_FILE).is_file():
        raise SettingError(
            f"run.resume must name a run folder, which holds {CONFIG_FILE}, got {folder}; "
            "name the folder <date>/<time>-<env>-<algo>-s<seed> of the run"
        )
    return folder


def _search_path(folders: Sequence[Path]) -> str:
    """Return the override that makes Hydra look in ``folders`` too."""
    places = [f"file://{folder.expanduser().absolute()}" for folder in folders]
    escaped = [place.replace("\\", "\\\\").replace("'", "\\'") for place in places]
    quoted = ",".join(f"'{place}'" for place in escaped)
    return f"hydra.searchpath=[{quoted}]"


def _literal(value: object) -> object:
    """Return ``value`` in YAML's own types, with ``${`` escaped to be read back as it stands."""
    if is_dataclass(value) and not isinstance(value, type):
        settings = [
            field.name for field in fields(value) if "omegaconf_ignore" not in field.metadata
        ]
        return {name: _literal(getattr(value, name)) for name in settings}
    match value:
        case Enum():
            return value.name
        case dict():
            return {key: _literal(each) for key, each in value.items()}
        case list():
            return [_literal(each) for each in value]
        case str():
            return _INTERPOLATION.sub(r"\1\1\\${", value)
        case _:
            return value
