"""What settings may say where an environment has one role."""

from __future__ import annotations

from collections.abc import Sequence

from astuner_gym.errors import SettingError


def require_only_role(role: str, trainable: Sequence[str] | None) -> None:
    """Refuse ``env.trainable`` where it names another role.

    Raises:
        SettingError: It does.
    """
    for each in trainable or ():
        if each != role:
            raise SettingError(
                f"env.trainable must be [{role}], the one role here, or null, got {each!r}; "
                "set env.trainable=null"
            )


def refuse_opponent_of(role: str, trainable: Sequence[str] | None, *, name: str) -> None:
    """Refuse an opponent where the one role learns, so that nobody would ask it.

    Args:
        role: The one there is.
        trainable: Roles that learn.
        name: Of the environment, for the message.

    Raises:
        SettingError: The role learns.
    """
    if trainable:
        raise SettingError(
            f"an opponent plays the roles that do not learn, and env={name} has none but {role}, "
            "which does; set opponent=none"
        )
