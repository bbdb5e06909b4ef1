"""The sampler that answers by script."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from astuner_gym.errors import SettingError
from astuner_rl.errors import SamplerError
from astuner_rl.samplers import Sampler, ScriptedAnswer, ScriptedSampler
from astuner_rl.types import Completion, DrawKey, EpisodeKey, FinishReason, SamplingParams

EPISODE = EpisodeKey("train", 0, 0, 0)


def complete(sampler: Sampler, prompt: list[int], *, call: int = 0, limit: int = 9) -> Completion:
    key = DrawKey(0, EPISODE, "alice", call)
    return asyncio.run(sampler.generate(prompt, params=SamplingParams(max_tokens=limit), key=key))


def test_the_answer_is_a_function_of_prompt_and_key() -> None:
    sampler = ScriptedSampler(lambda prompt, key: ScriptedAnswer([prompt[-1], key.call], [-1, -2]))
    assert complete(sampler, [5, 6], call=3) == Completion(
        token_ids=(6, 3), logprobs=(-1, -2), finish_reason=FinishReason.STOP, policy_version=0
    )


def test_a_long_answer_is_cut_and_finishes_by_length() -> None:
    completion = complete(ScriptedSampler(lambda *_: ScriptedAnswer([1, 2, 3])), [5], limit=2)
    assert completion.token_ids == (1, 2)
    assert completion.logprobs == (0.0, 0.0)
    assert completion.finish_reason is FinishReason.LENGTH


def test_texts_are_answered_by_call_number_and_begin_again() -> None:
    sampler = ScriptedSampler.from_texts(["ab", "c"], encode=lambda text: [*text.encode(), 0])
    answers = [complete(sampler, [5], call=call).token_ids for call in (2, 1, 0)]
    assert answers == [(97, 98, 0), (99, 0), (97, 98, 0)]


def test_loaded_weights_change_the_version_alone() -> None:
    sampler = ScriptedSampler(lambda *_: ScriptedAnswer([1]))
    asyncio.run(sampler.load_weights({}, version=4))
    assert (sampler.policy_version, complete(sampler, [5]).policy_version) == (4, 4)


@pytest.mark.parametrize("answer", [ScriptedAnswer([]), ScriptedAnswer([1], [0.0, 0.0])])
def test_an_unusable_script_is_refused(answer: ScriptedAnswer) -> None:
    with pytest.raises(SamplerError, match="mend the script"):
        complete(ScriptedSampler(lambda *_: answer), [5])


def test_an_empty_list_of_texts_is_refused() -> None:
    with pytest.raises(SettingError, match=">= 1 text"):
        ScriptedSampler.from_texts([], encode=lambda text: [])


def test_a_closed_sampler_refuses_requests() -> None:
    sampler = ScriptedSampler(lambda *_: ScriptedAnswer([1]))
    asyncio.run(sampler.close())
    with pytest.raises(SamplerError, match="closed"):
        complete(sampler, [5])


def test_the_package_is_imported_without_torch() -> None:
    check = "import sys, astuner_rl.samplers; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
