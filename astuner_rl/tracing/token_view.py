"""Sampled episodes token by token, in the words of the report.

Everything here may come from a model and is untrusted text; the template escapes it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from astuner_rl.tracing.episode_json import LoggedEpisode
from astuner_rl.types import CallRecord

Decode: TypeAlias = Callable[[Sequence[int]], Sequence[str]]
"""Token ids [T] to the text of each of them [T]."""

MAX_TOKENS: Final = 6_000
"""An episode's calls are shown until they hold so many tokens; a browser must still scroll."""

_SHOWN_AS: Final = {"\n": "⏎\n", "\t": "⇥\t", "": "∅"}
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a browser shows as nothing, or that reorder the text around them."""


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """One token as it is shown."""

    text: str
    kind: str
    """Its CSS classes."""
    title: str
    """What pointing at it tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """One call as it is shown."""

    heading: str
    facts: tuple[str, ...]
    context_heading: str
    context: tuple[TokenSpan, ...]
    """The prompt beyond the call that it extends."""
    reply: tuple[TokenSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeView:
    """One episode as it is shown."""

    heading: str
    outcome: str
    facts: tuple[str, ...]
    calls: tuple[CallView, ...]
    left_out: int
    """Calls after ``MAX_TOKENS``."""


def view_episode(logged: LoggedEpisode, *, decode: Decode) -> EpisodeView:
    """Return an episode as it is shown."""
    episode = logged.episode
    calls: list[CallView] = []
    shown = 0
    contexts = {
        (record.call.agent, record.call.index): len(record.prompt_ids)
        + len(record.completion.token_ids)
        for record in episode.calls
    }
    for record, masked in zip(episode.calls, logged.masked, strict=True):
        if shown > MAX_TOKENS:
            break
        repeated = 0 if record.extends is None else contexts[record.call.agent, record.extends]
        calls.append(_view_call(record, masked, repeated=repeated, decode=decode))
        shown += len(record.prompt_ids) - repeated + len(record.completion.token_ids)
    key = episode.key
    rewards = (f"reward {value:.4g} ({agent})" for agent, value in episode.rewards.items())
    figures = (f"{name} {value:.4g}" for name, value in episode.metrics.items())
    return EpisodeView(
        heading=f"{episode.task_id} · {key.phase} · policy {key.step} · sample {key.sample}",
        outcome="solved" if episode.success else episode.status.value,
        facts=(*rewards, *figures, *([episode.reason] if episode.reason else [])),
        calls=tuple(calls),
        left_out=len(episode.calls) - len(calls),
    )


def _view_call(
    record: CallRecord, masked: str | None, *, repeated: int, decode: Decode
) -> CallView:
    call, completion = record.call, record.completion
    new_ids = record.prompt_ids[repeated:]
    context = tuple(
        TokenSpan(_visible(text), "context", f"token {token} · context, not sampled here")
        for token, text in zip(new_ids, decode(new_ids), strict=True)
    )
    reply = tuple(
        _sampled(token, text, logprob, masked)
        for token, text, logprob in zip(
            completion.token_ids, decode(completion.token_ids), completion.logprobs, strict=True
        )
    )
    behind = "" if record.extends is None else f", behind all of call {record.extends}"
    return CallView(
        heading=f"{call.agent} · call {call.index}",
        facts=(
            *([f"role {call.role}"] if call.role != call.agent else []),
            f"{len(reply)} tokens",
            f"ended by {completion.finish_reason.value}",
            f"temperature {record.params.temperature:g}",
            f"policy version {' then '.join(map(str, dict.fromkeys(completion.versions)))}",
            "trained" if masked is None else f"not trained: {masked}",
        ),
        context_heading=f"{len(new_ids)} tokens of context{behind}",
        context=context,
        reply=reply,
    )


def _sampled(token: int, text: str, logprob: float, masked: str | None) -> TokenSpan:
    probability = math.exp(min(logprob, 0.0))
    facts = f"token {token} · log-prob {logprob:.4f} · probability {probability:.3g}"
    if masked is not None:
        return TokenSpan(_visible(text), "masked", f"{facts} · not trained: {masked}")
    level = sum(probability < bound for bound in (0.9, 0.5, 0.1))
    return TokenSpan(_visible(text), f"trained unlikely-{level}", f"{facts} · trained")


def _visible(text: str) -> str:
    r"""Return a token's text with everything spelled out that would not show: ``\u202e``."""
    if text in _SHOWN_AS:
        return _SHOWN_AS[text]
    return "".join(
        _SHOWN_AS.get(char)
        or (f"\\u{ord(char):04x}" if unicodedata.category(char) in _HIDDEN else char)
        for char in text
    )
