"""Stand-ins for a judging model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from astuner_gym.errors import JudgeError

T = TypeVar("T")


class ScriptedModel:
    """Answers by a function of the material, which is given by label; keeps what it was asked."""

    def __init__(self, answer: Callable[[Mapping[str, str]], str]) -> None:
        self._answer = answer
        self.asked: list[list[Mapping[str, str]]] = []

    async def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        parse: Callable[[str], T],
        temperature: float | None = None,
    ) -> T:
        self.asked.append(list(messages))
        try:
            return parse(self._answer(material_in(messages[-1]["content"])))
        except ValueError as error:
            raise JudgeError(str(error)) from error

    async def close(self) -> None:
        """Nothing is held."""


def material_in(content: str) -> dict[str, str]:
    """Return the enclosed texts by label, as the marks say."""
    mark = content.splitlines()[0].split()[-1]
    found = re.findall(
        rf"^BEGIN ([\w ]+) {mark}\n(.*?)\nEND \1 {mark}$", content, re.DOTALL | re.MULTILINE
    )
    return dict(found)
