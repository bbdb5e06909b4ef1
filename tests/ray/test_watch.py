"""Whoever looks after an actor gives it up when it is lost."""

from __future__ import annotations

import asyncio

import pytest

from astuner_rl.backbones.ray import answers
from astuner_rl.backbones.ray.answers import watch
from astuner_rl.errors import LostProcessError


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "WATCH_EVERY_S", 0.0)
    monkeypatch.setattr(answers, "MOST_RESTARTS", 2)


def test_an_actor_that_dies_too_often_is_given_up() -> None:
    processes = iter([7, 7, 8, 8, 8, 9, 9, 10])

    async def look() -> int:
        return next(processes)

    with pytest.raises(LostProcessError, match="a sampler may die 2 times and has died 3 times"):
        asyncio.run(watch(look, of="a sampler", within_s=1.0))
    assert not list(processes)


def test_an_actor_that_does_not_answer_is_given_up() -> None:
    async def look() -> int:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(LostProcessError, match=r"a sampler must answer within 0\.01 s"):
        asyncio.run(watch(look, of="a sampler", within_s=0.01))
