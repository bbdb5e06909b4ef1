"""A report with hostile model output, opened in a real browser: nothing runs, nothing is loaded.

Each attack is tried three ways: as the tokens of an episode, which the report must show as text;
put into the finished page as it is, where the content security policy alone must hold; and in a
page without that policy, where it must succeed, or the other two would prove nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.tracing.episode_log import write_episodes
from astuner_rl.tracing.metrics import MetricsLog
from astuner_rl.tracing.report import write_report
from astuner_rl.tracing.run_folder import create_run_folder
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; scripts/test browser installs one"
)

RUN = "document.documentElement.setAttribute('data-owned', '')"
SCRIPTS = {
    "script": f"<script>{RUN}</script>",
    "script_after_closing_everything": f"</span></title></style></svg><script>{RUN}</script>",
    "image_error": f'<img src="nowhere:" onerror="{RUN}">',
    "svg_load": f'<svg onload="{RUN}"></svg>',
    "details_toggle": f'<details open ontoggle="{RUN}"></details>',
    "frame": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    "javascript_frame": f'<iframe src="javascript:parent.{RUN}"></iframe>',
    "title": "<script>document.title = 'owned'</script>",
}
LOADS = {
    "image": '<img src="{url}">',
    "style_sheet": '<link rel="stylesheet" href="{url}">',
    "style_import": '<style>@import "{url}";</style>',
    "frame": '<iframe src="{url}"></iframe>',
    "script": '<script src="{url}"></script>',
}


class Dom(HTMLParser):
    """What the browser made of a page: its title, marks of attacks, and the tokens on show."""

    def __init__(self, serialized: str) -> None:
        super().__init__()
        self.title = ""
        self.owned = False
        self.tokens: list[tuple[str, str]] = []
        """Text and title of every token that no closed ``details`` hides."""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(serialized)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "link"}:
            self._open.append((tag, dict(attrs)))
        self.owned = self.owned or (tag == "html" and "data-owned" in dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        tag, attributes = self._open[-1]
        if [tag for tag, _ in self._open[-2:]] == ["head", "title"]:  # an SVG has titles too
            self.title += data
        hidden = any(tag == "details" and "open" not in found for tag, found in self._open)
        if tag == "span" and "log-prob" in (attributes.get("title") or "") and not hidden:
            self.tokens.append((data, attributes["title"] or ""))


def open_in_chromium(page: Path, *, profile: Path) -> Dom:
    """Open a page, let its scripts and timers run, and return what became of it."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",  # a container's root has no sandbox; the page is this test's own
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=2000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return Dom(done.stdout.decode("utf-8"))


def write_run(root: Path, texts: Sequence[str]) -> Path:
    """Write the report of a run whose only reply has the given texts as its tokens."""
    folder = create_run_folder(
        root, cwd=root, env="gsm8k", algo="grpo", seed=0, started=datetime(2026, 3, 1)
    )
    folder.config.write_text("seed: 0\n", encoding="utf-8")
    with MetricsLog(folder.metrics) as log:
        log.append(0, {"reward/mean": 0.5})
    record = CallRecord(
        call=ChatCall(agent=texts[0], role=texts[0], index=0, messages=()),
        reply=ChatReply(text=""),
        prompt_ids=tuple(range(len(texts))),
        completion=Completion(
            token_ids=tuple(range(len(texts))),
            logprobs=(-0.25,) * len(texts),
            finish_reason=FinishReason.STOP,
            policy_version=0,
        ),
        extends=None,
        params=SamplingParams(),
    )
    episode = Episode(
        key=EpisodeKey("train", 0, 0, 0),
        task_id=texts[0],
        calls=(record,),
        status=EpisodeStatus.TRUNCATED,
        reason=texts[0],
        rewards={texts[0]: 1.0},
    )
    write_episodes(
        folder.episode_file(phase="train", step=0),
        [LoggedEpisode(episode=episode, masked=(None,))],
    )
    return write_report(folder, decode=lambda ids: [texts[token] for token in ids])


def with_markup(report: Path, markup: str) -> Path:
    """Put markup into a finished report, as if nothing had escaped it."""
    page = report.read_text(encoding="utf-8")
    assert page.count("<main>") == 1
    report.write_text(page.replace("<main>", f"<main>{markup}"), encoding="utf-8")
    return report


def without_policy(path: Path, markup: str) -> Path:
    path.write_text(f"<!doctype html><title>x</title><body>{markup}</body>", encoding="utf-8")
    return path


@contextmanager
def watched_server() -> Iterator[tuple[str, list[str]]]:
    """Serve on a port of this machine and record what is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/leak", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_hostile_tokens_are_shown_as_text_with_their_log_probs(tmp_path: Path) -> None:
    with watched_server() as (url, asked):
        texts = [*SCRIPTS.values(), *(load.format(url=url) for load in LOADS.values()), "plain"]
        report = write_run(tmp_path, texts)
        dom = open_in_chromium(report, profile=tmp_path / "profile")
    assert dom.title == "00-00-00-gsm8k-grpo-s0"
    assert not dom.owned
    assert asked == []
    assert [text for text, _ in dom.tokens] == texts
    assert dom.tokens[-1][1] == (
        f"token {len(texts) - 1} · log-prob -0.2500 · probability 0.779 · trained"
    )


@pytest.mark.parametrize("attack", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_the_policy_stops_scripts_that_were_not_escaped(tmp_path: Path, attack: str) -> None:
    report = with_markup(write_run(tmp_path, ["plain"]), attack)
    dom = open_in_chromium(report, profile=tmp_path / "profile")
    assert not dom.owned
    assert dom.title == "00-00-00-gsm8k-grpo-s0"

    control = without_policy(tmp_path / "control.html", attack)
    dom = open_in_chromium(control, profile=tmp_path / "profile")
    assert dom.owned or dom.title == "owned"


@pytest.mark.parametrize("attack", LOADS.values(), ids=LOADS.keys())
def test_the_policy_stops_loads_that_were_not_escaped(tmp_path: Path, attack: str) -> None:
    with watched_server() as (url, asked):
        markup = attack.format(url=url)
        report = with_markup(write_run(tmp_path, ["plain"]), markup)
        open_in_chromium(report, profile=tmp_path / "profile")
        assert asked == []

        control = without_policy(tmp_path / "control.html", markup)
        open_in_chromium(control, profile=tmp_path / "profile")
        assert asked == ["/leak"]
