"""Why settings are refused, in words that name the setting and what it may be.

Hydra's own messages name neither where an option or a key is misspelt, and show a traceback.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches

from hydra.errors import HydraException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from astuner_gym.errors import SettingError


def not_an_option(group: str, value: str, *, options: Sequence[str]) -> SettingError:
    """Return why ``group=value`` is refused."""
    likely = get_close_matches(value, options, n=1)
    hint = f"; did you mean {group}={likely[0]}?" if likely else ""
    return SettingError(f"{group} must be one of {', '.join(options)}, got {value!r}{hint}")


def unknown_setting(key: str, *, known: Sequence[str]) -> SettingError:
    """Return why ``key`` is refused, with the settings that it may have meant.

    Args:
        key: What is no setting.
        known: The settings that there are, such as ``train.steps``.
    """
    sections = list(dict.fromkeys(each.partition(".")[0] for each in known))
    same_name = [each for each in known if _name(each) == _name(key)]
    alike = get_close_matches(key, [*known, *sections], n=3)
    likely = list(dict.fromkeys([*same_name, *alike]))
    hint = f"; did you mean {' or '.join(likely)}?" if likely else ""
    section = key.partition(".")[0]
    siblings = [each for each in known if each.startswith(f"{section}.")]
    return SettingError(
        f"there is no setting {key}{hint}; there are {', '.join(siblings or sections)}"
    )


def refusal(error: Exception, *, known: Sequence[str]) -> SettingError:
    """Return what Hydra or OmegaConf found wrong, in the project's own terms.

    Args:
        error: As raised; Hydra's own names no key, the one that caused it may.
        known: The settings that there are, such as ``train.steps``.
    """
    origin = error.__cause__ or error.__context__
    if isinstance(error, HydraException) and isinstance(origin, OmegaConfBaseException):
        error = origin
    reason = str(error).splitlines()[0]
    if not isinstance(error, OmegaConfBaseException) or not error.full_key:
        return SettingError(reason)
    key = error.full_key
    match error:
        case ConfigKeyError() | ConfigAttributeError():
            return unknown_setting(key, known=known)
        case MissingMandatoryValue():
            return SettingError(f"{key} must be set; give {key}=<value>")
        case ValidationError() if is_dataclass(error.object_type):
            kind = {field.name: field.type for field in fields(error.object_type)}[error.key]
            # A string where its module postpones the evaluation of annotations.
            shown = kind if isinstance(kind, str) else inspect.formatannotation(kind)
            return SettingError(f"{key} must be of type {shown}, got {error.value!r}: {reason}")
        case _:
            return SettingError(f"{key}: {reason}")


def _name(key: str) -> str:
    return key.rpartition(".")[2]
