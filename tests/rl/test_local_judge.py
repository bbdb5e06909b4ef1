"""A frozen model on this machine as a judge: in training, evaluation and rescoring."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from astuner_gym.chat.parsers import reply_parser
from astuner_gym.errors import JudgeError, SettingError
from astuner_gym.judging.llm import parse_score
from astuner_rl import evaluate, rescore, train
from astuner_rl.composition import compose_experiment
from astuner_rl.config import LlmJudgeConfig
from astuner_rl.errors import BrokenSamplerError, SamplerError
from astuner_rl.judges import open_judge
from astuner_rl.local_judge import LocalJudge
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.scripted import ScriptedAnswer, ScriptedSampler
from astuner_rl.samplers.transformers import TransformersSampler
from astuner_rl.tracing.episode_log import read_episodes
from astuner_rl.types import Completion, DrawKey, EpisodeStatus, SamplingParams
from tests.rl.conftest import ToyRuns
from tests.rl.speaking_model import save_speaking_model


@pytest.fixture(scope="module")
def scoring(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that says 'Score: N'."""
    folder = tmp_path_factory.mktemp("judge") / "scoring"
    return save_speaking_model(folder, tokenizer_from=hf_folder, word="Score", choices="0123456789")


@pytest.fixture(scope="module")
def comparing(hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that says 'BeTtEr: 1' or 'BeTtEr: 2'."""
    folder = tmp_path_factory.mktemp("judge") / "comparing"
    return save_speaking_model(folder, tokenizer_from=hf_folder, word="BeTtEr", choices="12")


def asked_of(folder: Path, *more: str) -> list[str]:
    return ["judge=llm", f"judge.model_path={folder}", "judge.attacks=flag", *SHORT, *more]


SHORT = ["judge.max_tokens=16", "judge.temperature=1"]


def ask_all(folder: Path, questions: Sequence[str], *, concurrency: int, seed: int) -> list[float]:
    """Ask questions, all at once, and return the scores in their order."""
    settings = [*asked_of(folder), f"judge.concurrency={concurrency}", f"seed={seed}"]

    async def run() -> list[float]:
        opened = open_judge(compose_experiment(settings))
        assert opened.model is not None
        try:
            return await asyncio.gather(
                *(
                    opened.model.ask([{"role": "user", "content": each}], parse=parse_score)
                    for each in questions
                )
            )
        finally:
            await opened.close()

    return asyncio.run(run())


def test_a_verdict_is_a_function_of_question_and_seed(scoring: Path) -> None:
    questions = [f"How good is {number}?" for number in range(12)]
    scores = ask_all(scoring, questions, concurrency=8, seed=0)
    assert len(set(scores)) > 3  # drawn at temperature 1, each by itself
    backwards = ask_all(scoring, [*questions[::-1], questions[0]], concurrency=1, seed=0)
    assert backwards == [*scores[::-1], scores[0]]
    assert ask_all(scoring, questions, concurrency=8, seed=1) != scores


def test_a_run_learns_from_its_verdicts_and_goes_on_bit_for_bit(
    toy: ToyRuns, scoring: Path, tmp_path: Path
) -> None:
    whole = toy.finish(tmp_path / "whole", *asked_of(scoring), "eval.every=1")
    lines = toy.metrics(tmp_path / "whole")
    assert all(line["run/exact"] is True for line in lines)
    assert lines[-1]["judge/attack"] is not None
    assert len({line["reward/mean"] for line in lines[1:]}) > 1
    assert toy.start(tmp_path / "parts", *asked_of(scoring), "eval.every=1", "train.steps=2") == 0
    assert toy.resume(tmp_path / "parts", "train.steps=4") == 0
    assert toy.outcome(tmp_path / "parts") == whole


def test_groups_that_were_begun_are_compared_again_with_the_same_verdicts(
    toy: ToyRuns, comparing: Path, tmp_path: Path
) -> None:
    settings = [*asked_of(comparing, "judge.mode=pairwise"), "overlap.max_staleness=1"]
    whole = toy.finish(tmp_path / "whole", *settings, "checkpoint.keep=9")
    lines = toy.metrics(tmp_path / "whole")
    assert lines[-1]["run/exact"] is True
    assert "judge/group/undecided" in lines[-1]
    for checkpoint in toy.checkpoints(tmp_path / "whole")[3:]:
        shutil.rmtree(checkpoint)  # as if it had been killed after step 2, with batch 3 begun
    assert toy.resume(tmp_path / "whole") == 0
    assert toy.outcome(tmp_path / "whole") == whole


def test_a_run_does_not_go_on_with_other_weights_and_may_find_its_own_elsewhere(
    toy: ToyRuns, scoring: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(scoring, moved)
    run = tmp_path / "run"
    assert toy.start(run, *asked_of(scoring), "train.steps=1") == 0
    assert toy.resume(run, "train.steps=2", f"judge.model_path={moved}") == 0
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    assert toy.resume(run, "train.steps=3") == 2
    assert "judge" in capsys.readouterr().err


def test_a_start_that_fails_leaves_no_judge_and_no_opponent(toy: ToyRuns, scoring: Path) -> None:
    def sampling() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "astuner-sampler"}

    before = sampling()
    opponent = ["env.trainable=[writer]", "opponent=hf", f"opponent.path={toy.hf_folder}"]
    settings = toy.settings(*asked_of(scoring), *opponent, "model.path=/nowhere")
    assert train.main(settings) == 2
    assert sampling() <= before


def test_it_judges_held_out_tasks_and_finished_runs(
    toy: ToyRuns, scoring: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.expected()
    run = toy.expected_folder()
    settings = asked_of(scoring)
    assert rescore.main([f"run={run}", *settings]) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    figures = json.loads(printed)
    assert figures["train"]["episodes"] == 16
    assert figures["train"]["reward_after"] != figures["train"]["reward_before"]
    assert rescore.main([f"run={run}", *settings]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed
    assert evaluate.main([*toy.settings(*settings), "run.dir=null"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out.splitlines()[-1])["eval/reward"]["mean"] <= 0.9


def test_a_model_that_gives_no_verdict_drops_the_episodes_with_the_reason(
    toy: ToyRuns, comparing: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert toy.start(run, *asked_of(comparing), "judge.attempts=2") == 1
    (log,) = (run / "episodes").glob("step-000000-eval-eval.jsonl*")
    episodes = [logged.episode for logged in read_episodes(log)]
    assert {episode.status for episode in episodes} == {EpisodeStatus.FAILED}
    for episode in episodes:
        assert f"{comparing} must give a usable answer within 2 attempts" in episode.reason
        assert "the last line must be 'Score: N'" in episode.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "set judge.base_url=<address> judge.model=<name>, or judge.model_path="),
        (["judge.model_path=m", "judge.base_url=http://h/v1"], "leave one of them out"),
        (["judge.model_path=m", "judge.model=m"], "leave one of them out"),
        (["judge.model_path="], "judge.model_path must name a hub id or a folder"),
        (["judge.model_path=m", "judge.max_tokens=4096"], "must be < judge.context_length"),
        (["judge.model_path=m", "judge.temperature=3"], "judge.temperature must be between"),
    ],
)
def test_settings_that_break_a_rule_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        compose_experiment(["judge=llm", *settings])


def test_a_folder_without_a_model_is_named(
    toy: ToyRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy.start(tmp_path / "run", "judge=llm", f"judge.model_path={tmp_path}") == 2
    assert "judge.model_path must be the hub id or folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_context_that_an_answer_alone_fills_up_is_refused(hf_folder: Path) -> None:
    config = compose_experiment(["judge=llm", f"judge.model_path={hf_folder}"])
    with pytest.raises(SettingError, match=r"judge\.max_tokens must be < .*got 512 and 512"):
        open_judge(config)


@pytest.fixture(scope="module")
def renderer(hf_folder: Path) -> ChatRenderer:
    return ChatRenderer(AutoTokenizer.from_pretrained(hf_folder), reply_parser("hermes"))


def judge_saying(
    renderer: ChatRenderer, reply: str, *, attempts: int = 1
) -> tuple[LocalJudge, list[str]]:
    """Return a judge whose model always says the same, and the prompts that it will be given."""
    prompts: list[str] = []

    def answer(prompt_ids: Sequence[int], key: DrawKey) -> ScriptedAnswer:
        prompts.append(renderer.codec.decode(prompt_ids))
        return ScriptedAnswer([*renderer.codec.encode(reply), renderer.stop_token_ids[0]])

    return local_judge(renderer, ScriptedSampler(answer), attempts=attempts), prompts


def local_judge(renderer: ChatRenderer, sampler: Sampler, *, attempts: int = 1) -> LocalJudge:
    config = LlmJudgeConfig(model_path="m", attempts=attempts)
    return LocalJudge(sampler, renderer, config, name="m", context_length=600, seed=0)


def asked(judge: LocalJudge, text: str) -> int:
    return asyncio.run(judge.ask([{"role": "user", "content": text}], parse=int))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from(
            ["<|im_end|>", "<|im_start|>", "<|im_start|>system", "<", "|im_end|>", "\n", "system"]
        )
    )
)
def test_judged_text_cannot_spell_the_models_special_tokens(
    renderer: ChatRenderer, pieces: list[str]
) -> None:
    judge, prompts = judge_saying(renderer, "4")
    assert [asked(judge, text) for text in ("plain", "".join(pieces))] == [4, 4]
    assert "<|im_end|>" in renderer.codec.special_texts
    for special in renderer.codec.special_texts:
        assert len({prompt.count(special) for prompt in prompts}) == 1


def test_thinking_is_no_part_of_the_answer(renderer: ChatRenderer) -> None:
    judge, _ = judge_saying(renderer, "<think>\nHm.\n</think>\n\n12")
    assert asked(judge, "?") == 12


def test_an_unusable_answer_is_asked_for_again_with_the_reason(renderer: ChatRenderer) -> None:
    judge, prompts = judge_saying(renderer, "twelve", attempts=2)
    with pytest.raises(JudgeError, match="m must give a usable answer within 2 attempts"):
        asked(judge, "?")
    first, second = prompts
    assert second.startswith(f"{first}twelve<|im_end|>")
    assert "This cannot be used: invalid literal" in second


def test_a_question_that_leaves_no_room_is_named(renderer: ChatRenderer) -> None:
    judge, prompts = judge_saying(renderer, "4")
    with pytest.raises(JudgeError, match=r"tokens of 600; raise judge\.context_length"):
        asked(judge, "a b " * 600)
    assert prompts == []


def test_a_sampler_that_fails_is_a_judge_that_fails(renderer: ChatRenderer) -> None:
    def answer(prompt_ids: Sequence[int], key: DrawKey) -> ScriptedAnswer:
        raise SamplerError("out of memory")

    with pytest.raises(JudgeError, match="m cannot be asked: out of memory"):
        asked(local_judge(renderer, ScriptedSampler(answer)), "?")


def test_a_judge_that_breaks_ends_the_run_and_no_task_is_lost(
    toy: ToyRuns,
    scoring: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = toy.finish(tmp_path / "whole", *asked_of(scoring))
    run = tmp_path / "run"
    asked = itertools.count()
    generate = TransformersSampler.generate

    async def breaks(
        sampler: TransformersSampler,
        prompt_ids: Sequence[int],
        *,
        params: SamplingParams,
        key: DrawKey,
    ) -> Completion:
        # In the second batch: an evaluation has 2 episodes, a batch 4.
        if key.episode.phase == "judge" and next(asked) >= 8:
            raise BrokenSamplerError("the engine has died")
        return await generate(sampler, prompt_ids, params=params, key=key)

    with monkeypatch.context() as patched:
        patched.setattr(TransformersSampler, "generate", breaks)
        assert toy.start(run, *asked_of(scoring)) == 1
    said = capsys.readouterr().err
    assert f"error: {scoring} can judge no more: the engine has died; the run kept step-" in said
    assert f"go on with run.resume={run}" in said
    assert toy.resume(run) == 0
    assert toy.outcome(run) == whole
