"""Rules that settings must meet; each failure gives the rule, the value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from astuner_gym.errors import SettingError


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of ``choices``.

    Raises:
        SettingError: The value breaks the rule.
    """
    if value not in choices:
        raise SettingError(
            f"{name} must be one of {', '.join(choices)}, got {value!r}; set {name}={choices[0]}"
        )


def require_range(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Refuse a value outside ``[low, high]``, or one that is not finite.

    Raises:
        SettingError: The value breaks the rule.
    """
    if not (math.isfinite(value) and low <= value <= high):
        if high == math.inf:
            bound, remedy = f">= {low}", f"set {name}={low} or more"
        else:
            bound = f"between {low} and {high}"
            remedy = f"set {name} to a number from {low} to {high}"
        raise SettingError(f"{name} must be {bound}, got {value}; {remedy}")


def require_positive(name: str, value: float, *, finite: bool = True) -> None:
    """Refuse a value that is not above 0.

    Raises:
        SettingError: The value breaks the rule.
    """
    if not value > 0 or (finite and math.isinf(value)):
        raise SettingError(f"{name} must be > 0, got {value}; set {name} to a positive number")
