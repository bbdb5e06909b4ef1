"""Gymnasium spaces of text: whatever Unicode a policy may write, and the messages that it reads.

``gymnasium.spaces.Text`` lists its alphabet, and all of Unicode makes a list of over a million;
here a text is limited by its length alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from gymnasium import Space

from astuner_gym.chat.messages import ChatMessage, ChatRole, ToolCall
from astuner_gym.errors import SettingError

Prompt: TypeAlias = tuple[ChatMessage, ...]

_SAMPLE_LENGTH = 64
_SURROGATE = re.compile("[\ud800-\udfff]")
_PRINTABLE = "".join(map(chr, range(ord(" "), ord("~") + 1)))


class UnicodeText(Space[str]):
    """Any Unicode text of at most ``max_length`` code points, the empty one included.

    A lone surrogate, which Python admits in ``str``, is no character and is not contained.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        """Make the space.

        Raises:
            SettingError: ``max_length`` is below 1.
        """
        if max_length < 1:
            raise SettingError(
                f"max_length must be >= 1 for a text to hold anything, got {max_length}"
            )
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text of any alphabet has no vector of fixed size."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """Return a short text of printable ASCII; masks have no meaning here."""
        length = int(self.np_random.integers(0, min(self.max_length, _SAMPLE_LENGTH) + 1))
        letters = self.np_random.integers(0, len(_PRINTABLE), size=length)
        return "".join(_PRINTABLE[letter] for letter in letters)

    def contains(self, x: Any) -> bool:
        """Return whether ``x`` is a text of this space."""
        return isinstance(x, str) and len(x) <= self.max_length and _SURROGATE.search(x) is None

    def to_jsonable(self, sample_n: Sequence[str]) -> list[str]:
        """Return the texts, which JSON holds as they are."""
        return list(sample_n)

    def from_jsonable(self, sample_n: Sequence[str]) -> list[str]:
        """Return the texts."""
        return list(sample_n)

    def __eq__(self, other: object) -> bool:
        """Return whether the other space contains the same texts."""
        return isinstance(other, UnicodeText) and other.max_length == self.max_length

    def __hash__(self) -> int:
        """Return a hash that agrees with equality."""
        return hash((UnicodeText, self.max_length))

    def __repr__(self) -> str:
        """Return the expression that makes this space."""
        return f"UnicodeText({self.max_length})"


class Messages(Space[Prompt]):
    """Prompts: any number of messages whose texts are within ``text``."""

    def __init__(self, text: UnicodeText, *, seed: int | np.random.Generator | None = None) -> None:
        """Make the space; ``text`` is the space of each text in a message."""
        self.text = text
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: messages hold text."""
        return False

    def seed(self, seed: int | None = None) -> int | list[int] | dict[str, int]:
        """Seed this space and the texts that it samples."""
        self.text.seed(seed)
        return super().seed(seed)

    def sample(self, mask: None = None, probability: None = None) -> Prompt:
        """Return a short talk between a user and an assistant; masks have no meaning here."""
        roles = (ChatRole.USER, ChatRole.ASSISTANT)
        count = int(self.np_random.integers(1, 4))
        return tuple(
            ChatMessage(role=roles[position % 2], text=self.text.sample())
            for position in range(count)
        )

    def contains(self, x: Any) -> bool:
        """Return whether ``x`` is a tuple of messages of this space."""
        return isinstance(x, tuple) and all(
            isinstance(message, ChatMessage)
            and message.text in self.text
            and message.thinking in self.text
            and all(call.arguments in self.text for call in message.tool_calls)
            for message in x
        )

    def to_jsonable(self, sample_n: Sequence[Prompt]) -> list[list[dict[str, Any]]]:
        """Return each prompt as a list of dicts, one a message, by the fields' names."""
        return [[asdict(message) for message in prompt] for prompt in sample_n]

    def from_jsonable(self, sample_n: Sequence[Sequence[Mapping[str, Any]]]) -> list[Prompt]:
        """Return the prompts that :meth:`to_jsonable` was given, after JSON or before."""
        return [tuple(_message(fields) for fields in prompt) for prompt in sample_n]

    def __eq__(self, other: object) -> bool:
        """Return whether the other space contains the same messages."""
        return isinstance(other, Messages) and other.text == self.text

    def __hash__(self) -> int:
        """Return a hash that agrees with equality."""
        return hash((Messages, self.text))

    def __repr__(self) -> str:
        """Return the expression that makes this space."""
        return f"Messages({self.text!r})"


def _message(fields: Mapping[str, Any]) -> ChatMessage:
    return ChatMessage(
        role=ChatRole(fields["role"]),
        text=fields["text"],
        thinking=fields["thinking"],
        tool_calls=tuple(ToolCall(**call) for call in fields["tool_calls"]),
        tool_call_id=fields["tool_call_id"],
        name=fields["name"],
    )
