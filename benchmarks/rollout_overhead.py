"""CPU time of rollouts beside the agents' own: what tracking every token costs.

256 episodes run at once, each of six calls: an AgentScope ReAct agent of ``env=gsm8k`` uses its
calculator five times and answers. Nobody computes a token; all answers come from one script, so
that what is left is the time of the programs around a model. Compared are

- *ours*: ``collect_groups`` over an ``EpisodeRunner`` with a ``TokenPolicy``, judge included. Each
  call is rendered, encoded, sampled from a ``ScriptedSampler`` in token ids, decoded, parsed and
  recorded for training.
- *bare*: the same workflow on the same tasks, gathered on one event loop, over the smallest
  ``ChatModelBase`` that there can be: it looks its answer up and reads no message. So it leaves out
  what each model of AgentScope does first, the formatting of the messages, which ours must do.
- *tokenizer*: what it takes anybody to have the same prompts and answers in tokens, call by call:
  ``tokenizer.apply_chat_template(messages, tools=…, add_generation_prompt=True)`` on messages that
  are dicts already, and ``tokenizer.decode``. The token ids are checked to be those of *ours*.

``cpu_ratio`` is ours / (bare + tokenizer), of medians over repeats that are measured in turns. What
was allocated before the first is frozen for the garbage collector, so that each way pays for the
objects it makes itself, and neither for a walk through all the modules that happen to be loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from agentscope.credential import CredentialBase
from agentscope.formatter import OpenAIChatFormatter
from agentscope.message import Msg, TextBlock, ToolCallBlock
from agentscope.model import ChatModelBase, ChatResponse
from agentscope.tool import ToolChoice
from transformers import PreTrainedTokenizerFast

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_envs.gsm8k.calculator import evaluate
from astuner_gym.chat.messages import ChatReply, ToolCall
from astuner_gym.chat.openai_format import message_to_openai
from astuner_gym.chat.parsers import reply_parser
from astuner_gym.environment import Environment
from astuner_gym.task import Task
from astuner_rl.learning.tiny import TinyConfig
from astuner_rl.learning.tiny.tokenizer import train_tokenizer
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rollout.config import RolloutConfig
from astuner_rl.rollout.episode_runner import EpisodeRunner
from astuner_rl.rollout.groups import collect_groups
from astuner_rl.samplers.scripted import ScriptedSampler
from astuner_rl.tracking.tracker import TokenPolicy
from astuner_rl.types import CallRecord, EpisodeStatus, Group, SamplingParams
from benchmarks.report import Bar, report

CALCULATIONS = ("12 * 7", "84 + 19", "103 - 45", "58 * 12", "696 / 8")
"""What the agent asks the calculator, call after call."""
DEMONSTRATIONS = 2000
"""From which the tokenizer is trained, as that of the tiny model is."""


def scripted_replies() -> tuple[ChatReply, ...]:
    """The replies of an episode, in order: a tool call for each calculation, then an answer."""
    calls = (
        ToolCall("calculator", json.dumps({"expression": calculation}))
        for calculation in CALCULATIONS
    )
    answer = evaluate(CALCULATIONS[-1])
    return (
        *(ChatReply(text="", tool_calls=(call,)) for call in calls),
        ChatReply(text=f"So there are {answer} of them. #### {answer}"),
    )


def spelled(reply: ChatReply) -> str:
    """A reply as a policy writes it, in the format of Hermes."""
    return reply.text + "".join(
        f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n</tool_call>'
        for call in reply.tool_calls
    )


class BareModel(ChatModelBase):
    """Answers call after call from a script, whatever it is asked."""

    def __init__(self, replies: Sequence[ChatReply]) -> None:
        super().__init__(
            credential=CredentialBase(),
            model="bare",
            parameters=self.Parameters(),
            stream=False,
            max_retries=0,
        )
        # Agents read this attribute to learn which media their model takes.
        self.formatter = OpenAIChatFormatter()
        self.heard: Sequence[Msg] = ()
        """What came with the last call."""
        self._replies = replies
        self._calls = 0

    async def _call_api(
        self,
        model_name: str,
        messages: list[Msg],
        tools: list[dict[str, Any]] | None = None,
        tool_choice: ToolChoice | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        self.heard = messages
        index = self._calls
        self._calls += 1
        reply = self._replies[index]
        # An agent skips a tool call whose id it knows already, so no two may have the same.
        blocks = [
            ToolCallBlock(id=f"call-{index}-{position}", name=call.name, input=call.arguments)
            for position, call in enumerate(reply.tool_calls)
        ]
        text = [TextBlock(text=reply.text)] if reply.text else []
        return ChatResponse(content=[*text, *blocks], is_last=True)


@dataclass(frozen=True, slots=True)
class BareModels:
    """The one model of an episode's one agent."""

    model: BareModel

    def __getitem__(self, agent: str, /) -> BareModel:
        """The model."""
        return self.model

    def for_role(self, agent: str, *, role: str) -> BareModel:
        """The model."""
        return self.model

    def reward(self, agent: str, amount: float) -> None:
        """Not given here."""

    def leave(self, agent: str) -> None:
        """Nobody leaves here."""

    def accept_limit(self) -> None:
        """There are no limits here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The episodes that both ways run."""

    environment: Environment
    tokenizer: PreTrainedTokenizerFast
    tasks: Sequence[Task]
    group_size: int

    @property
    def episodes(self) -> int:
        """Episodes that run at once."""
        return len(self.tasks) * self.group_size

    @property
    def calls(self) -> int:
        """Calls of all episodes."""
        return self.episodes * len(scripted_replies())


def make_load(*, tasks: int, group_size: int, demonstrations: int) -> Load:
    """The first tasks of the environment, and the tokenizer of its tiny model."""
    environment = Gsm8kConfig().build()
    assert environment.demonstrations is not None
    conversations = list(islice(environment.demonstrations.train, demonstrations))
    return Load(
        environment=environment,
        tokenizer=train_tokenizer(conversations, vocab_size=TinyConfig().vocab_size),
        tasks=[environment.train_tasks[index] for index in range(tasks)],
        group_size=group_size,
    )


def tracked_rollout(load: Load) -> Callable[[], list[Group]]:
    """What runs all episodes as training does."""
    renderer = ChatRenderer(load.tokenizer, reply_parser("hermes"))
    sampler = ScriptedSampler.from_texts(
        [spelled(reply) for reply in scripted_replies()],
        encode=lambda text: [*renderer.codec.encode(text), renderer.stop_token_ids[0]],
    )
    config = RolloutConfig(concurrency=load.episodes)
    runner = EpisodeRunner(
        environment=load.environment,
        policy=TokenPolicy(renderer=renderer, sampler=sampler, seed=0),
        config=config,
    )

    async def collect(groups: list[Group]) -> None:
        groups += await collect_groups(
            runner,
            load.tasks,
            phase="train",
            step=0,
            samples=load.group_size,
            params=SamplingParams(max_tokens=config.max_tokens),
        )

    def run() -> list[Group]:
        groups: list[Group] = []
        # The coroutine returns nothing, because asyncio.run spends time on the text of a result.
        asyncio.run(collect(groups))
        return groups

    return run


def bare_rollout(load: Load) -> Callable[[], list[BareModel]]:
    """What runs all episodes with nothing between the agents and the script."""
    replies = scripted_replies()

    async def gathered(models: Sequence[BareModel]) -> None:
        await asyncio.gather(
            *(
                load.environment.workflow.run(
                    load.tasks[number // load.group_size], BareModels(model)
                )
                for number, model in enumerate(models)
            )
        )

    def run() -> list[BareModel]:
        models = [BareModel(replies) for _ in range(load.episodes)]
        asyncio.run(gathered(models))
        return models

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainCall:
    """A call as somebody without a tracker has it."""

    messages: list[dict[str, Any]]
    tools: list[dict[Any, Any] | Callable[..., Any]]
    completion_ids: list[int]

    def prompt_ids(self, tokenizer: PreTrainedTokenizerFast) -> object:
        """The prompt's tokens."""
        return tokenizer.apply_chat_template(
            self.messages, tools=self.tools, add_generation_prompt=True, return_dict=False
        )


def tokenizer_alone(load: Load, records: Sequence[CallRecord]) -> Callable[[], None]:
    """What turns the prompts into tokens, and the completions into text, as a plain user would."""
    tokenizer = load.tokenizer
    calls = [
        PlainCall(
            messages=[message_to_openai(message) for message in record.call.messages],
            tools=[dict(tool) for tool in record.call.tools],
            completion_ids=[*record.completion.token_ids],
        )
        for record in records
    ]
    for record, call in zip(records, calls, strict=True):
        assert call.prompt_ids(tokenizer) == [*record.prompt_ids], "tokens must be the same"

    def run() -> None:
        for call in calls:
            call.prompt_ids(tokenizer)
            tokenizer.decode(call.completion_ids)

    return run


def check_bare(load: Load, models: Sequence[BareModel]) -> None:
    """Each agent must have heard every result of its calculator."""
    expected = [evaluate(calculation) for calculation in CALCULATIONS]
    assert len(models) == load.episodes
    for model in models:
        heard = [
            part.text
            for message in model.heard
            for block in message.get_content_blocks("tool_result")
            for part in block.output
            if isinstance(part, TextBlock)
        ]
        assert heard == expected, f"the agent must hear {expected}, it heard {heard}"


def check_tracked(load: Load, groups: Sequence[Group]) -> list[CallRecord]:
    """The calls of all episodes, which must have gone as scripted, in one timeline each."""
    episodes = [episode for group in groups for episode in group.episodes]
    assert {episode.status for episode in episodes} == {EpisodeStatus.COMPLETED}, episodes[0].reason
    records = [record for episode in episodes for record in episode.calls]
    assert len(records) == load.calls
    results = [record.call.messages[-1].text for record in records if record.call.index]
    assert results == [evaluate(calculation) for calculation in CALCULATIONS] * load.episodes
    assert all(
        record.extends == (record.call.index - 1 if record.call.index else None)
        for record in records
    )
    return records


def cpu_seconds(action: Callable[[], object]) -> float:
    """CPU time of this process, all threads together, that an action takes."""
    gc.collect()  # what the action before left behind is not this one's to clean up
    start = time.process_time()
    action()
    return time.process_time() - start


def measured_in_turns(
    actions: Mapping[str, Callable[[], object]], *, repeats: int
) -> dict[str, list[float]]:
    """CPU seconds of every action, each run once to warm up and then ``repeats`` times in turn."""
    for action in actions.values():
        action()
    gc.collect()
    gc.freeze()
    try:
        seconds: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(repeats):
            for name, action in actions.items():
                seconds[name].append(cpu_seconds(action))
    finally:
        gc.unfreeze()
    return seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    load = make_load(tasks=8 if quick else 32, group_size=8, demonstrations=DEMONSTRATIONS)
    repeats = 3 if quick else 9
    rollout = tracked_rollout(load)
    records = check_tracked(load, rollout())
    bare = bare_rollout(load)
    check_bare(load, bare())
    load_before = os.getloadavg()[0]
    seconds = measured_in_turns(
        {
            "ours": rollout,
            "bare": bare,
            "tokenizer": tokenizer_alone(load, records),
        },
        repeats=repeats,
    )
    per_call = {
        name: 1000 * statistics.median(values) / load.calls for name, values in seconds.items()
    }
    ratio = per_call["ours"] / (per_call["bare"] + per_call["tokenizer"])
    spread = {name: (max(values) / min(values)) for name, values in seconds.items()}
    prompt_tokens = statistics.fmean(len(record.prompt_ids) for record in records)

    print(
        f"{load.episodes} episodes at once, {load.calls} calls of {prompt_tokens:.0f} prompt tokens"
    )
    print(f"CPU time, medians of {repeats} repeats in turns, load average {load_before:.1f}")
    print(f"\n{'':12}{'ms/call':>9}{'max/min':>9}   what it does")
    for name, does in {
        "bare": "AgentScope agents and tools; answers looked up, messages not even formatted",
        "tokenizer": "apply_chat_template of every prompt, decode of every completion",
        "ours": "agents, tools, formatting, rendering, tokens, parsing, call log, retries, judge",
    }.items():
        print(f"{name:12}{per_call[name]:9.3f}{spread[name]:9.2f}   {does}")
    report(
        "rollout_overhead",
        figures={
            "episodes": load.episodes,
            "calls": load.calls,
            "repeats": repeats,
            "mean_prompt_tokens": prompt_tokens,
            "load_average": load_before,
            **{f"{name}_ms_per_call": value for name, value in per_call.items()},
            **{f"{name}_max_over_min": value for name, value in spread.items()},
        },
        bars={"cpu_ratio": Bar(ratio, "<=", 1.2)},
        keep=not quick,
    )


if __name__ == "__main__":
    main()
