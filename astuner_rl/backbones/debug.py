"""The same path one episode at a time, printed and without learning: where to look when it hurts.

Episodes run one after the other on the thread that called, so ``breakpoint()`` in a workflow, a
tool or a judge stops there. Everything that a step would train on is printed: messages, tokens
with their log-probs and masks, rewards and, where they come from a group's rewards alone,
advantages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from astuner_gym.chat.messages import ChatMessage, ChatReply
from astuner_gym.task import task_indices
from astuner_rl.algos.groups import group_advantages
from astuner_rl.backbones.config import TrainConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.tracking.training_data import mask_reason, training_data
from astuner_rl.types import CallRecord, Episode, Group


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugBackbone:
    """Plays the episodes of the first steps and prints them."""

    runner: EpisodeRunner
    """With ``concurrency`` 1."""
    train: TrainConfig
    seed: int
    trainable: Sequence[str] | None
    """Roles that would learn; None for all."""
    scale_by_std: bool | None
    """Whether advantages are divided by their group's standard deviation; None shows none, since
    they depend on more than the group's rewards."""
    decode_each: Callable[[Sequence[int]], Sequence[str]]
    """Token ids [T] to the text of each of them [T]."""
    write: Callable[[str], None]
    """Takes one line of plain text."""

    async def run(self) -> None:
        """Play and print ``train.steps`` steps."""
        source = self.runner.environment.train_tasks
        for step in range(self.train.steps):
            indices = task_indices(
                seed=self.seed,
                size=len(source),
                start=step * self.train.groups,
                count=self.train.groups,
            )
            groups = await collect_groups(
                self.runner,
                [source[index] for index in indices],
                phase="train",
                step=step,
                samples=self.train.group_size,
                params=self.runner.config.params,
                group_judge=self.runner.environment.group_judge,
            )
            for group in groups:
                for episode in group.episodes:
                    self._print_episode(episode)
                self._print_advantages(group)
            data = training_data(groups, trainable=self.trainable)
            masked = ", ".join(f"{reason} {count}" for reason, count in data.masked.items())
            self.write(
                f"step {step}: {data.sampled} tokens sampled, {data.certificate.trained} to train, "
                f"masked: {masked or 'none'}"
            )

    def _print_episode(self, episode: Episode) -> None:
        key = episode.key
        self.write(f"── step {key.step} · task {episode.task_id} · sample {key.sample}")
        for record in episode.calls:
            self._print_call(record, episode)
        rewards = ", ".join(f"{agent} {reward:g}" for agent, reward in episode.rewards.items())
        self.write(f"{episode.status}: {episode.reason!r}" if episode.reason else episode.status)
        self.write(f"rewards: {rewards or 'none'}")

    def _print_call(self, record: CallRecord, episode: Episode) -> None:
        call, completion = record.call, record.completion
        extends = "a fresh prompt" if record.extends is None else f"extends call {record.extends}"
        self.write(f"{call.agent} ({call.role}) call {call.index}: {extends}")
        for message in call.messages:
            self.write(f"  {message.role}: {_shown(message)}")
        self.write(f"  → {_shown(record.reply)}")
        reason = mask_reason(record, episode, trainable=self.trainable)
        self.write(
            f"  {len(record.prompt_ids)} context tokens, {len(completion.token_ids)} sampled "
            f"({completion.finish_reason}), {'trained' if reason is None else f'masked: {reason}'}"
        )
        tokens = zip(self.decode_each(completion.token_ids), completion.logprobs, strict=True)
        shown = (f"{text!r} {logprob:.2f}" for text, logprob in tokens)
        self.write(f"  tokens and log-probs: {' · '.join(shown)}")

    def _print_advantages(self, group: Group) -> None:
        units = training_data([group], trainable=self.trainable).agent_episodes
        for role in sorted({unit.role for unit in units}):
            rewards = [unit.reward for unit in units if unit.role == role]
            self.write(f"group {group.task_id}, {role}: rewards {rewards}")
            if self.scale_by_std is None:
                continue
            advantages = group_advantages(
                torch.tensor(rewards, dtype=torch.float64),
                torch.zeros(len(rewards), dtype=torch.int64),
                scale_by_std=self.scale_by_std,
            )
            self.write(f"  advantages {[round(value, 3) for value in advantages.tolist()]}")


def _shown(message: ChatMessage | ChatReply) -> str:
    """Return a message on one line; control characters stay escaped, whoever wrote them."""
    parts = [repr(message.text)] if message.text else []
    if message.thinking:
        parts.insert(0, f"(thinks {message.thinking!r})")
    parts += [f"{call.name!r}({call.arguments!r})" for call in message.tool_calls]
    return " ".join(parts)
