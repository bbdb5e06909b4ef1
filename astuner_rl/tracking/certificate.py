"""Whether training rows are what was sampled: no token twice, each in the context that it had.

Worked example. A call had the prompt ``1 2`` and sampled ``a b``. In a row ``1 2 a b 3 c`` whose
span ``[2, 4)`` names the call, ``a b`` are faithful. In ``1 9 a b`` they would be unfaithful, since
the sampler never saw that context. A second span of the same call would duplicate them.

Nothing here is taken from the code that makes the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astuner_rl.types import AgentEpisode, CallRecord, Episode, EpisodeKey, SampledSpan, Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Tokens in the spans of a step's training rows."""

    trained: int
    """Each counted once."""
    duplicated: int
    """Those that are in a further span."""
    unfaithful: int
    """Those whose row holds other tokens or log-probs than their call."""

    @property
    def holds(self) -> bool:
        """Whether nothing is twice and nothing false."""
        return self.duplicated == self.unfaithful == 0


def certify(units: Iterable[AgentEpisode], episodes: Sequence[Episode]) -> Certificate:
    """Compare training rows with the calls that were made, in time linear in their tokens.

    Args:
        units: With spans of calls of ``episodes``.
        episodes: The call log.
    """
    calls: dict[tuple[EpisodeKey, str, int], CallRecord] = {
        (episode.key, record.call.agent, record.call.index): record
        for episode in episodes
        for record in episode.calls
    }
    seen: set[tuple[EpisodeKey, str, int]] = set()
    trained = duplicated = unfaithful = 0
    for unit in units:
        for timeline in unit.timelines:
            for span in timeline.spans:
                name = (unit.episode, unit.agent, span.call)
                if name in seen:
                    duplicated += span.stop - span.start
                    continue
                seen.add(name)
                trained += span.stop - span.start
                if not _is_faithful(timeline, span, calls.get(name)):
                    unfaithful += span.stop - span.start
    return Certificate(trained=trained, duplicated=duplicated, unfaithful=unfaithful)


def _is_faithful(timeline: Timeline, span: SampledSpan, record: CallRecord | None) -> bool:
    return (
        record is not None
        and timeline.token_ids[: span.start] == record.prompt_ids
        and timeline.token_ids[span.start : span.stop] == record.completion.token_ids
        and span.logprobs == record.completion.logprobs
    )
