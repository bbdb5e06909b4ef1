"""Claims, and what is read of a speech."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_envs.werewolves.rules import NAMES
from astuner_envs.werewolves.talk import NOTHING, Claim, claims_in


@pytest.mark.parametrize(
    ("speech", "claims"),
    [
        ("I suspect Ben.", (Claim("Ben", True),)),
        ("I trust Ben.", (Claim("Ben", False),)),
        ("I checked Ben: werewolf.", (Claim("Ben", True, checked=True),)),
        ("I checked Ben: village.", (Claim("Ben", False, checked=True),)),
        (
            "Well, I trust Ada but I suspect Ben!",
            (Claim("Ada", False), Claim("Ben", True)),
        ),
        ("i suspect ben", ()),
        ("I suspect Bennet.", ()),
        ("HI suspect Ben.", ()),
        ("I checked Ben: seer.", ()),
        (NOTHING, ()),
        ("", ()),
    ],
)
def test_claims_are_found_in_speeches(speech: str, claims: tuple[Claim, ...]) -> None:
    assert claims_in(speech) == claims


@given(st.lists(st.builds(Claim, st.sampled_from(NAMES), st.booleans(), st.booleans()), max_size=4))
def test_every_claim_is_read_as_it_was_said(claims: list[Claim]) -> None:
    assert claims_in(" ".join(map(str, claims))) == tuple(claims)
