"""A report is one page that loads nothing, and what a model wrote is only ever text in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.errors import UnusableInputError
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.episode_log import write_episodes
from astuner_rl.tracing.metrics import MetricsLog
from astuner_rl.tracing.report import write_report
from astuner_rl.tracing.run_folder import RunFolder, create_run_folder
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_folder(tmp_path)


def new_folder(root: Path) -> RunFolder:
    return create_run_folder(
        root, cwd=root, env="gsm8k", algo="grpo", seed=0, started=datetime(2026, 3, 1)
    )


class Page(HTMLParser):
    """Elements, attributes and text of a page, as any HTML parser sees them."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def no_tokens(token_ids: Sequence[int]) -> list[str]:
    assert not token_ids
    return []


def episode(sample: int, *, reward: float | None, agent: str = "solver") -> LoggedEpisode:
    record = CallRecord(
        call=ChatCall(agent=agent, role=agent, index=0, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=(),
        completion=Completion(
            token_ids=(0,),
            logprobs=(-0.5,),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        ),
        extends=None,
        params=SamplingParams(),
    )
    return LoggedEpisode(
        episode=Episode(
            key=EpisodeKey("train", 0, 0, sample),
            task_id="t",
            calls=(record,),
            status=EpisodeStatus.FAILED if reward is None else EpisodeStatus.COMPLETED,
            rewards={} if reward is None else {agent: reward},
        ),
        masked=(None,),
    )


def read(folder: RunFolder, *, text: str = "x") -> str:
    def decode(token_ids: Sequence[int]) -> list[str]:
        return [text] * len(token_ids)

    return write_report(folder, decode=decode).read_text(encoding="utf-8")


def test_a_run_that_recorded_nothing_has_a_report(folder: RunFolder) -> None:
    page = write_report(folder, decode=no_tokens).read_text()
    assert "No step has been recorded yet." in page
    assert "No episode has been logged yet." in page
    assert "The run folder holds no config.yaml." in page


def test_one_step_has_a_report(folder: RunFolder) -> None:
    with MetricsLog(folder.metrics) as log:
        log.append(0, {"reward/mean": 0.5, "run/exact": True, "judge/x": float("nan")})
    page = Page(read(folder))
    assert page.elements.count("svg") == 1
    assert "0.5" in page.texts


def test_five_hundred_steps_have_a_report_of_bearable_size(folder: RunFolder) -> None:
    with MetricsLog(folder.metrics) as log:
        for step in range(501):
            log.append(step, {"reward/mean": step % 10, "policy/kl": 0.1, "extra/a": 1})
    content = read(folder)
    assert Page(content).elements.count("svg") == 3
    assert "1 more figures" in content
    assert len(content) < 200_000


def test_headlines_come_in_their_order(folder: RunFolder) -> None:
    with MetricsLog(folder.metrics) as log:
        log.append(0, {"time/step_s": 1.0, "policy/entropy": 1.0, "reward/mean": 1.0})
    assert re.findall(r"<figcaption>(\S+)", read(folder)) == [
        "reward/mean",
        "policy/entropy",
        "time/step_s",
    ]


def test_settings_are_listed_without_secrets(folder: RunFolder) -> None:
    folder.config.write_text("seed: 3\njudge: {api_key: sk-secret, model: m}\nempty: {}\nlist: [1]")
    texts = Page(read(folder)).texts
    for name, value in (("seed", "3"), ("judge.api_key", "[redacted]"), ("judge.model", "m")):
        assert texts[texts.index(name) + 1] == value
    assert "sk-secret" not in "".join(texts)


def test_settings_that_cannot_be_read_are_named(folder: RunFolder) -> None:
    folder.config.write_text("a: [")
    with pytest.raises(UnusableInputError, match=r"config\.yaml"):
        read(folder)


def test_episodes_of_the_first_and_the_last_step_span_the_rewards(folder: RunFolder) -> None:
    for step in (0, 1, 2):
        rewards = [0.3, 0.1, None, 0.9, 0.5, 0.7]
        write_episodes(
            folder.episode_file(phase="train", step=step),
            [episode(sample, reward=reward) for sample, reward in enumerate(rewards)],
        )
    content = read(folder)
    assert re.findall(r"<h3>(.*?)</h3>", content) == ["step-000002: 4 of 6", "step-000000: 4 of 6"]
    samples = re.findall(r"sample (\d)", content)
    # Sorted by reward the samples are 2 (failed), 1, 0, 4, 5, 3.
    assert samples == ["2", "1", "4", "3"] * 2


def test_the_policy_admits_the_style_sheet_alone(folder: RunFolder) -> None:
    content = read(folder)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', content)
    (style,) = re.findall(r"<style>(.*)</style>", content, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


PLAIN_ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "article"),
    *("h1", "h2", "h3", "h4", "p", "div", "span", "small", "strong", "b", "ul", "li", "details"),
    *("summary", "table", "thead", "tbody", "tr", "th", "td"),
}
PLAIN_ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "title", "aria-label", "open"),
    "scope",
}
HOSTILE = [
    "<script>document.title='owned'</script>",
    "</title></style></svg><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "<a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!--<svg/onload=alert(1)>-->",
    "\ud800<\x00script>",
]


@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec=None), max_size=20)))
def test_text_from_outside_adds_no_element_and_no_attribute(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = new_folder(tmp_path_factory.mktemp("run"))
    write_episodes(folder.episode_file(phase="train", step=0), [episode(0, reward=1.0, agent=text)])
    folder.config.write_text("a: 1\n")
    page = Page(read(folder, text=text))
    assert set(page.elements) <= PLAIN_ELEMENTS
    assert {name for name, _ in page.attributes} <= PLAIN_ATTRIBUTES


def test_hostile_text_is_shown_as_it_is(folder: RunFolder) -> None:
    write_episodes(folder.episode_file(phase="train", step=0), [episode(0, reward=1.0)])
    for text in HOSTILE[:-1]:
        assert text in Page(read(folder, text=text)).texts
