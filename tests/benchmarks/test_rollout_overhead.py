"""That both sides of the overhead benchmark do the same work."""

from __future__ import annotations

from collections.abc import Callable

from astuner_gym.chat.parsers import reply_parser
from benchmarks.rollout_overhead import (
    Load,
    bare_rollout,
    check_bare,
    check_tracked,
    make_load,
    measured_in_turns,
    scripted_replies,
    spelled,
    tokenizer_alone,
    tracked_rollout,
)


def small_load() -> Load:
    return make_load(tasks=2, group_size=2, demonstrations=4)


def test_the_script_in_text_says_what_the_bare_model_answers() -> None:
    parser = reply_parser("hermes")
    assert tuple(parser.parse(spelled(reply)) for reply in scripted_replies()) == scripted_replies()


def test_agents_hear_their_calculator_both_ways_and_tokens_agree() -> None:
    load = small_load()
    records = check_tracked(load, tracked_rollout(load)())
    check_bare(load, bare_rollout(load)())
    tokenizer_alone(load, records)()
    assert load.calls == len(records) == 2 * 2 * 6


def test_ways_are_measured_in_turns_after_one_run_each() -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    seconds = measured_in_turns({"a": noting("a"), "b": noting("b")}, repeats=2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
