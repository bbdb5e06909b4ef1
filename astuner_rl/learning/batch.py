"""Agent-episodes as flat arrays of sampled tokens, in an order that no cut into rows changes.

Tokens stand in canonical order: agent-episode, call, position. Shapes: ``N`` sampled tokens, ``U``
agent-episodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from astuner_gym.errors import SettingError
from astuner_rl.algos.config import SurrogateConfig
from astuner_rl.algos.weights import Aggregation, token_weights
from astuner_rl.learning.layout import Row
from astuner_rl.types import AgentEpisode, SampledSpan, Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """The sampled tokens of some agent-episodes, and the rows in which they are found."""

    token_ids: Tensor
    """[N] int64."""
    old_logprobs: Tensor
    """[N] float64, as the sampler recorded them."""
    temperatures: Tensor
    """[N] float64, what the sampler divided the logits by."""
    unit: Tensor
    """[N] int64, agent-episode of each token; ascending."""
    call: Tensor
    """[N] int64, call of each token, numbered over the batch; ascending."""
    call_unit: Tensor
    """[C] int64, agent-episode of each call."""
    call_index: Tensor
    """[C] int64, number of calls that its agent had made before each, trained or not."""
    call_limit: Tensor
    """[C] int64, tokens that each call might have sampled."""
    call_rewards: Tensor
    """[C] float64, what of its agent-episode's reward fell with each call."""
    rewards: Tensor
    """[U] float64."""
    group: Tensor
    """[U] int64; agent-episodes of one (task, role) have the same number."""
    truncated: Tensor
    """[U] bool."""
    rows: tuple[tuple[Row, ...], ...]
    """[U] rows of each agent-episode; a token's slot is its index in canonical order."""
    dense_tokens: tuple[int, ...]
    """[U] what a forward pass with one row a call would cost, in tokens."""

    @property
    def units(self) -> int:
        """Number of agent-episodes, U."""
        return self.rewards.numel()

    def units_of(self, tokens: Tensor) -> Tensor:
        """Return [U] bool: agent-episodes of the tokens that ``tokens``, [N] bool, names."""
        units = torch.zeros(self.units, dtype=torch.bool)
        units[self.unit[tokens]] = True
        return units

    def rows_of(self, units: Tensor) -> list[Row]:
        """Return the rows of the agent-episodes that ``units``, [U] bool, names."""
        return [row for unit in units.nonzero().flatten().tolist() for row in self.rows[unit]]

    def dense_tokens_of(self, units: Tensor) -> int:
        """Return what one row a call costs the agent-episodes that ``units``, [U] bool, names."""
        counted = zip(self.dense_tokens, units.tolist(), strict=True)
        return sum(tokens for tokens, is_named in counted if is_named)

    def last_tokens(self) -> Tensor:
        """Return [U] int64: slot of each agent-episode's last sampled token, -1 if it has none."""
        counts = torch.bincount(self.unit, minlength=self.units)
        return torch.where(counts > 0, counts.cumsum(0) - 1, -1)

    def token_rewards(self) -> Tensor:
        """Return [N] float64: what fell with each call, at its last sampled token, else 0."""
        counts = torch.bincount(self.call, minlength=self.call_rewards.numel())
        spoke = counts > 0
        rewards = torch.zeros(self.unit.numel(), dtype=torch.float64)
        rewards[counts.cumsum(0)[spoke] - 1] = self.call_rewards[spoke]
        return rewards


def flatten(episodes: Sequence[AgentEpisode]) -> TokenBatch:
    """Return the sampled tokens of ``episodes`` in canonical order.

    Args:
        episodes: Sorted by key and agent by the caller; that order is the canonical one.

    Raises:
        ValueError: A call is sampled twice in one agent-episode, or a span is malformed.
        SettingError: A token was sampled greedily, from which no log-prob can be learned.

    Example: prompt ``[7, 8]`` sampled ``[1]``, then context ``[9]`` and sampled ``[2, 3]`` in the
    same timeline is one row ``[7, 8, 1, 9, 2, 3]`` that is read at 1, 3 and 4 for slots 0, 1 and 2;
    it is fed without its last token, which is only predicted.
    """
    token_ids: list[int] = []
    old_logprobs: list[float] = []
    temperatures: list[float] = []
    unit: list[int] = []
    call: list[int] = []
    call_unit: list[int] = []
    call_index: list[int] = []
    call_limit: list[int] = []
    call_rewards: list[float] = []
    rows: list[tuple[Row, ...]] = []
    dense_tokens: list[int] = []
    for u, episode in enumerate(episodes):
        first_slot: dict[int, int] = {}
        calls = _in_call_order(episode)
        call_rewards += _earned(episode, [span for _, span in calls])
        for timeline, span in calls:
            if span.call in first_slot:
                raise ValueError(
                    f"a call is trained once, got call {span.call} of {_name(episode)} twice; "
                    "give its tokens as context in all timelines but one"
                )
            _check_span(episode, timeline, span)
            first_slot[span.call] = len(token_ids)
            length = span.stop - span.start
            token_ids += timeline.token_ids[span.start : span.stop]
            old_logprobs += span.logprobs
            temperatures += [span.params.temperature] * length
            unit += [u] * length
            call += [len(call_unit)] * length
            call_unit.append(u)
            call_index.append(span.call)
            call_limit.append(span.params.max_tokens)
        found = (_row(timeline, first_slot) for timeline in episode.timelines)
        rows.append(tuple(row for row in found if row.reads))
        dense_tokens.append(
            sum(span.stop - 1 for timeline in episode.timelines for span in timeline.spans)
        )
    return TokenBatch(
        token_ids=torch.tensor(token_ids, dtype=torch.int64),
        old_logprobs=torch.tensor(old_logprobs, dtype=torch.float64),
        temperatures=torch.tensor(temperatures, dtype=torch.float64),
        unit=torch.tensor(unit, dtype=torch.int64),
        call=torch.tensor(call, dtype=torch.int64),
        call_unit=torch.tensor(call_unit, dtype=torch.int64),
        call_index=torch.tensor(call_index, dtype=torch.int64),
        call_limit=torch.tensor(call_limit, dtype=torch.int64),
        call_rewards=torch.tensor(call_rewards, dtype=torch.float64),
        rewards=torch.tensor([episode.reward for episode in episodes], dtype=torch.float64),
        group=_number_groups(episodes),
        truncated=torch.tensor([episode.truncated for episode in episodes], dtype=torch.bool),
        rows=tuple(rows),
        dense_tokens=tuple(dense_tokens),
    )


def _in_call_order(episode: AgentEpisode) -> list[tuple[Timeline, SampledSpan]]:
    found = [(timeline, span) for timeline in episode.timelines for span in timeline.spans]
    return sorted(found, key=lambda pair: pair[1].call)


def _earned(episode: AgentEpisode, spans: Sequence[SampledSpan]) -> list[float]:
    """Return what fell with each call; the last one that sampled a token has the rest."""
    speaking = [place for place, span in enumerate(spans) if span.stop > span.start]
    earned = [0.0] * len(spans)
    for place in speaking:
        earned[place] = spans[place].reward
    if speaking:
        earned[speaking[-1]] += episode.reward - math.fsum(earned)
    return earned


def _row(timeline: Timeline, first_slot: dict[int, int]) -> Row:
    reads: list[int] = []
    slots: list[int] = []
    for span in timeline.spans:
        reads += range(span.start - 1, span.stop - 1)
        first = first_slot[span.call]
        slots += range(first, first + span.stop - span.start)
    return Row(token_ids=timeline.token_ids, reads=tuple(reads), slots=tuple(slots))


def _check_span(episode: AgentEpisode, timeline: Timeline, span: SampledSpan) -> None:
    length = len(timeline.token_ids)
    where = f"call {span.call} of {_name(episode)}"
    if not 1 <= span.start <= span.stop <= length:
        raise ValueError(
            f"a sampled span must follow a prompt and lie within its timeline, got "
            f"[{span.start}, {span.stop}) of {length} tokens in {where}"
        )
    if len(span.logprobs) != span.stop - span.start:
        raise ValueError(
            f"every sampled token needs its log-prob, got {len(span.logprobs)} for "
            f"{span.stop - span.start} tokens in {where}"
        )
    if span.params.temperature <= 0:
        raise SettingError(
            f"tokens to train must be sampled with temperature > 0, got {span.params.temperature} "
            f"in {where}; set a positive sampling temperature for training"
        )


def _name(episode: AgentEpisode) -> str:
    return f"agent {episode.agent!r} in {episode.episode}"


def _number_groups(episodes: Sequence[AgentEpisode]) -> Tensor:
    numbers: dict[tuple[str, int, int, str], int] = {}
    group = []
    for episode in episodes:
        key = (episode.episode.phase, episode.episode.step, episode.episode.task, episode.role)
        group.append(numbers.setdefault(key, len(numbers)))
    return torch.tensor(group, dtype=torch.int64)


def minibatch_weights(batch: TokenBatch, config: SurrogateConfig) -> list[Tensor]:
    """Return the loss weights of each optimizer step in one pass over the batch.

    Agent-episodes are split in their order into parts of equal size, give or take one, so
    siblings of a group stay together. Weights are those of the part alone, see
    :func:`astuner_rl.algos.weights.token_weights`, and 0 outside it.

    Returns:
        Up to ``config.minibatches`` times [N] float64; a part without a token is left out.
    """
    parts = []
    for part in range(config.minibatches):
        first = part * batch.units // config.minibatches
        stop = (part + 1) * batch.units // config.minibatches
        inside = (batch.unit >= first) & (batch.unit < stop)
        if inside.any():
            weights = torch.zeros(inside.numel(), dtype=torch.float64)
            weights[inside] = token_weights(
                batch.unit[inside],
                batch.call[inside],
                aggregation=Aggregation(config.aggregation),
                constant=config.constant_tokens,
            )
            parts.append(weights)
    return parts
