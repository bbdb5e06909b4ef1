"""The context tracker under real agents: what is trained is what was sampled, after what was seen.

Invariants 1, 2 and 4: tokens in, tokens out; nothing lost, nothing twice, nothing false; the
end-of-turn token is trained where the policy sampled it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from agentscope.agent import Agent, InjectionConfig
from agentscope.message import AssistantMsg, Msg, TextBlock, ToolCallBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.chat.model import EpisodeModels
from astuner_rl.assembly import build_renderer, build_sampler
from astuner_rl.errors import CallBudgetError
from astuner_rl.learning.pretrained import Pretrained, load_pretrained
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.samplers.protocol import Sampler
from astuner_rl.samplers.scripted import ScriptedAnswer, ScriptedSampler
from astuner_rl.samplers.transformers import TransformersSamplerConfig
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.tracking.tracker import ContextTracker, TokenPolicy
from astuner_rl.types import (
    CallRecord,
    Completion,
    DrawKey,
    EpisodeKey,
    FinishReason,
    SamplingParams,
    Timeline,
)

EPISODE = EpisodeKey("train", 0, 0, 0)
QUESTION = UserMsg("user", "What is 1+2?")
ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1,  "b":2}}\n</tool_call>'
"""Not as a template spells it: the arguments have two spaces in one place and none in another."""

Program = Callable[[EpisodeModels], Awaitable[object]]


@pytest.fixture(scope="module")
def pretrained(hf_folder: Path) -> Pretrained:
    return load_pretrained(str(hf_folder))


@pytest.fixture(scope="module")
def renderer(pretrained: Pretrained) -> ChatRenderer:
    return build_renderer(pretrained)


class WatchedSampler:
    """Passes requests on, and keeps what the sampler saw and returned."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner
        self.seen: dict[tuple[str, int], tuple[tuple[int, ...], Completion]] = {}

    @property
    def policy_version(self) -> int:
        return self._inner.policy_version

    async def generate(
        self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
    ) -> Completion:
        prompt = tuple(prompt_ids)  # now: nobody may change it afterwards
        completion = await self._inner.generate(prompt_ids, params=params, key=key)
        assert (key.agent, key.call) not in self.seen
        self.seen[key.agent, key.call] = (prompt, completion)
        return completion

    def release(self, episode: EpisodeKey) -> None:
        self._inner.release(episode)

    @property
    def exact(self) -> bool:
        return self._inner.exact

    async def load_weights(
        self, weights: Mapping[str, torch.Tensor], *, version: int, in_flight: bool = False
    ) -> None:
        await self._inner.load_weights(weights, version=version)

    async def close(self) -> None:
        await self._inner.close()


class Script:
    """Answers each agent's calls with its texts, one token for every character of them.

    The tokenizer gives others for most texts, so a reply that was tokenised again shows.
    """

    def __init__(self, renderer: ChatRenderer, texts: Mapping[str, Sequence[str]]) -> None:
        self._renderer = renderer
        self._texts = texts

    def __call__(self, prompt_ids: Sequence[int], key: DrawKey) -> ScriptedAnswer:
        return ScriptedAnswer(characterwise(self._renderer, self._texts[key.agent][key.call]))


def characterwise(renderer: ChatRenderer, text: str) -> list[int]:
    tokens = [token for character in text for token in renderer.codec.encode(character)]
    return [*tokens, renderer.stop_token_ids[0]]


def tracker(
    renderer: ChatRenderer, sampler: Sampler, *, max_tokens: int = 200, max_calls: int = 20
) -> ContextTracker:
    return TokenPolicy(renderer=renderer, sampler=sampler, seed=0).open(
        EPISODE, params=SamplingParams(max_tokens=max_tokens), max_calls=max_calls
    )


def play(
    program: Program,
    renderer: ChatRenderer,
    *,
    max_tokens: int = 200,
    max_calls: int = 20,
    **texts: Sequence[str],
) -> tuple[CallRecord, ...]:
    """Run a program against scripted agents, check what must always hold, and return its calls."""
    sampler = WatchedSampler(ScriptedSampler(Script(renderer, texts)))
    tracked = tracker(renderer, sampler, max_tokens=max_tokens, max_calls=max_calls)
    asyncio.run(_completed(program(EpisodeModels(tracked))))
    check_exact(tracked.records, sampler)
    return tracked.records


async def _completed(running: Awaitable[object]) -> None:
    await running


def timelines_of(records: Sequence[CallRecord]) -> dict[str, tuple[Timeline, ...]]:
    by_agent: dict[str, list[CallRecord]] = {}
    for record in records:
        by_agent.setdefault(record.call.agent, []).append(record)
    return {
        agent: build_timelines(calls, trained={call.call.index for call in calls})
        for agent, calls in by_agent.items()
    }


def check_exact(records: Sequence[CallRecord], sampler: WatchedSampler) -> None:
    """Check the timelines against what passed through the sampler's own door."""
    spans: Counter[tuple[str, int]] = Counter()
    for agent, timelines in timelines_of(records).items():
        for timeline in timelines:
            assert timeline.spans[-1].stop == len(timeline.token_ids)
            for span in timeline.spans:
                prompt, completion = sampler.seen[agent, span.call]
                # All that stands before a sampled token is what the sampler saw before it.
                assert timeline.token_ids[: span.start] == prompt
                assert timeline.token_ids[span.start : span.stop] == completion.token_ids
                assert span.logprobs == completion.logprobs
                spans[agent, span.call] += 1
    assert spans == Counter(dict.fromkeys(sampler.seen, 1))


async def add(a: int, b: int) -> ToolChunk:
    """Add two numbers.

    Args:
        a (int): the first
        b (int): the second
    """
    return ToolChunk(content=[TextBlock(text=str(a + b))])


def adder(models: EpisodeModels, *, name: str = "solver") -> Agent:
    allow = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="the test's own tool")
    return Agent(
        name=name,
        system_prompt="You add.",
        model=models[name],
        toolkit=Toolkit(tools=[FunctionTool(add, permission=allow)]),
        injection_config=InjectionConfig(inject_runtime_state=False),
    )


async def ask(models: EpisodeModels, agent: str, *messages: Msg) -> AssistantMsg:
    """Call a model and return its reply as a workflow keeps it."""
    response = await models[agent]([*messages])
    return AssistantMsg(name=agent, content=list(response.content))  # type: ignore[union-attr]


def tokens_after(timeline: Timeline, call: int) -> tuple[int, ...]:
    """Return what follows a call's sampled tokens."""
    (stop,) = [span.stop for span in timeline.spans if span.call == call]
    return timeline.token_ids[stop:]


def test_a_tool_using_agents_calls_are_one_timeline(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        agent = adder(models)
        assert (await agent.reply(QUESTION)).get_text_content() == "It is 3."
        assert (await agent.reply(UserMsg("user", "Sure?"))).get_text_content() == "Yes."

    records = play(program, renderer, solver=[ADD, "It is 3.", "Yes."])
    assert [record.extends for record in records] == [None, 0, 1]
    (timeline,) = timelines_of(records)["solver"]
    sampled = list(records[0].completion.token_ids[:-1])
    assert sampled != renderer.codec.encode(ADD)
    text = renderer.codec.decode(timeline.token_ids)
    assert text.endswith(
        f"{ADD}<|im_end|><|im_start|>tool\n3<|im_end|><|im_start|>assistant\n"
        "It is 3.<|im_end|><|im_start|>user\nSure?<|im_end|><|im_start|>assistant\nYes.<|im_end|>"
    )


def test_tool_calls_are_named_by_agent_and_call(renderer: ChatRenderer) -> None:
    texts = [ADD, f"{ADD}\n{ADD}", "It is 3."]
    records = play(lambda models: adder(models).reply(QUESTION), renderer, solver=texts)
    said = [message for message in records[2].call.messages if message.tool_calls]
    assert [[call.id for call in message.tool_calls] for message in said] == [
        ["solver-0-0"],
        ["solver-1-0", "solver-1-1"],
    ]
    answered = [message.tool_call_id for message in records[2].call.messages]
    assert [each for each in answered if each] == ["solver-0-0", "solver-1-0", "solver-1-1"]


@pytest.mark.parametrize("argument", ['"b":3', '"b": 2'])
def test_one_character_of_a_tool_argument_opens_a_timeline(
    renderer: ChatRenderer, argument: str
) -> None:
    """Even a space does, which the template would write anyway: the agent was not the policy."""

    async def program(models: EpisodeModels) -> None:
        agent = adder(models)
        await agent.reply(QUESTION)
        (call,) = [
            block
            for message in agent.state.context
            for block in message.content
            if isinstance(block, ToolCallBlock)
        ]
        call.input = call.input.replace('"b":2', argument)
        await agent.reply(UserMsg("user", "Sure?"))

    records = play(program, renderer, solver=[ADD, "It is 3.", "Yes."])
    assert [record.extends for record in records] == [None, 0, None]
    kept, rewritten = timelines_of(records)["solver"]
    assert [span.call for span in kept.spans] == [0, 1]
    assert [span.call for span in rewritten.spans] == [2]
    seen = renderer.codec.decode(rewritten.token_ids)
    assert argument.replace(":", ": ").replace("  ", " ") in seen
    assert '"b":2' not in seen


def test_a_rewritten_answer_opens_a_timeline(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        await ask(models, "ann", QUESTION)
        await ask(
            models, "ann", QUESTION, AssistantMsg("ann", "I said nothing."), UserMsg("user", "Eh?")
        )

    records = play(program, renderer, ann=["It is 3.", "Three."])
    assert [record.extends for record in records] == [None, None]
    assert len(timelines_of(records)["ann"]) == 2


def test_a_retry_forks_and_shares_what_came_before(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        first = await ask(models, "ann", QUESTION)
        history = (QUESTION, first, UserMsg("user", "Sure?"))
        await ask(models, "ann", *history)
        second = await ask(models, "ann", *history)
        await ask(models, "ann", *history, second, UserMsg("user", "Really?"))

    records = play(program, renderer, ann=["Three.", "No.", "Yes.", "Really."])
    assert [record.extends for record in records] == [None, 0, 0, 2]
    left, right = timelines_of(records)["ann"]
    assert [span.call for span in left.spans] == [0, 1]
    assert [span.call for span in right.spans] == [2, 3]
    shared = renderer.codec.decode(right.token_ids[: right.spans[0].start])
    assert "Three.<|im_end|>" in shared  # as context: call 0 is trained on the left


def test_the_end_of_turn_is_trained_where_it_was_sampled(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        first = await ask(models, "ann", QUESTION)
        await ask(models, "ann", QUESTION, first, UserMsg("user", "Sure?"))

    (timeline,) = timelines_of(play(program, renderer, ann=["Three.", "Yes."]))["ann"]
    stop = renderer.stop_token_ids[0]
    assert [timeline.token_ids[span.stop - 1] for span in timeline.spans] == [stop, stop]
    assert tokens_after(timeline, 0)[0] != stop  # it is not there twice


def test_an_end_of_turn_that_the_template_added_is_context(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        first = await ask(models, "ann", QUESTION)
        assert first.get_text_content() == "Thr"
        await ask(models, "ann", QUESTION, first, UserMsg("user", "Sure?"))

    records = play(program, renderer, ann=["Three.", "Yes."], max_tokens=3)
    assert [record.completion.finish_reason for record in records] == [FinishReason.LENGTH] * 2
    assert [record.extends for record in records] == [None, 0]
    (timeline,) = timelines_of(records)["ann"]
    stop = renderer.stop_token_ids[0]
    assert [span.stop - span.start for span in timeline.spans] == [3, 3]
    assert all(stop not in timeline.token_ids[span.start : span.stop] for span in timeline.spans)
    assert tokens_after(timeline, 0)[0] == stop


def test_agents_that_say_the_same_in_other_tokens_keep_apart(renderer: ChatRenderer) -> None:
    stop = renderer.stop_token_ids[0]
    spellings = {
        "ann": characterwise(renderer, ADD),
        "bob": [*renderer.codec.encode(ADD), stop],
    }
    assert spellings["ann"] != spellings["bob"]
    sampler = WatchedSampler(
        ScriptedSampler(lambda prompt_ids, key: ScriptedAnswer(spellings[key.agent]))
    )
    tracked = tracker(renderer, sampler)
    models = EpisodeModels(tracked)

    async def take_turns() -> None:
        for messages in ([QUESTION], [QUESTION, UserMsg("user", "Sure?")]):
            said = {agent: await ask(models, agent, *messages) for agent in spellings}
            for agent in reversed(spellings):
                await ask(models, agent, *messages, said[agent], UserMsg("user", "Go on."))

    asyncio.run(take_turns())
    check_exact(tracked.records, sampler)
    assert [(r.call.agent, r.call.index, r.extends) for r in tracked.records] == [
        (agent, index, extends)
        for agent in spellings
        for index, extends in enumerate([None, 0, None, 2])
    ]


def test_agents_that_speak_at_once_keep_apart(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        await asyncio.gather(*(adder(models, name=name).reply(QUESTION) for name in ("bob", "ann")))

    records = play(program, renderer, ann=[ADD, "Three."], bob=["No idea."])
    assert [(r.call.agent, r.call.index) for r in records] == [("ann", 0), ("ann", 1), ("bob", 0)]


def test_an_episode_has_a_budget_of_calls_for_all_its_agents(renderer: ChatRenderer) -> None:
    async def program(models: EpisodeModels) -> None:
        await ask(models, "ann", QUESTION)
        await ask(models, "bob", QUESTION)
        with pytest.raises(
            CallBudgetError, match=r"at most 2 calls and ann asks .*raise rollout\.max_calls"
        ):
            await ask(models, "ann", QUESTION)

    records = play(program, renderer, ann=["Yes."], bob=["No."], max_calls=2)
    assert [record.call.agent for record in records] == ["ann", "bob"]


def test_an_unanswered_call_counts_against_the_budget(renderer: ChatRenderer) -> None:
    class Silent(ScriptedSampler):
        async def generate(
            self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
        ) -> Completion:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets the event")

    tracked = tracker(renderer, Silent(lambda *_: ScriptedAnswer([])), max_calls=1)
    question = ChatMessage(role=ChatRole.USER, text="Hello?")

    def call(index: int) -> ChatCall:
        return ChatCall(agent="ann", role="ann", index=index, messages=(question,))

    async def run() -> None:
        waiting = asyncio.create_task(tracked.respond(call(0)))
        await asyncio.sleep(0)
        with pytest.raises(CallBudgetError):
            await tracked.respond(call(1))
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(run())
    assert tracked.records == ()


def test_draws_are_named_and_caches_released_by_episode(renderer: ChatRenderer) -> None:
    keys: list[DrawKey] = []
    released: list[EpisodeKey] = []

    class Keys(ScriptedSampler):
        async def generate(
            self, prompt_ids: Sequence[int], *, params: SamplingParams, key: DrawKey
        ) -> Completion:
            keys.append(key)
            return await super().generate(prompt_ids, params=params, key=key)

        def release(self, episode: EpisodeKey) -> None:
            released.append(episode)

    sampler = Keys(Script(renderer, {"ann": ["Hi.", "Ho."]}))
    tracked = TokenPolicy(renderer=renderer, sampler=sampler, seed=7).open(
        EPISODE, params=SamplingParams(), max_calls=2
    )
    models = EpisodeModels(tracked)

    async def run() -> None:
        await ask(models, "ann", QUESTION)
        await ask(models, "ann", QUESTION)

    asyncio.run(run())
    tracked.release()
    assert keys == [DrawKey(7, EPISODE, "ann", 0), DrawKey(7, EPISODE, "ann", 1)]
    assert released == [EPISODE]


def test_a_reply_counts_its_tokens(renderer: ChatRenderer) -> None:
    (record,) = play(lambda models: ask(models, "ann", QUESTION), renderer, ann=["Yes."])
    assert record.reply.prompt_tokens == len(record.prompt_ids)
    assert record.reply.completion_tokens == len(record.completion.token_ids) == 5


# A conversation of one agent as its steps: what becomes of the history before the next call.
GO_ON, RETRY, EDIT, FORGET, DROP = "go on", "retry", "edit", "forget", "drop"
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.sampled_from([GO_ON, GO_ON, GO_ON, RETRY, EDIT, FORGET, DROP]),
        st.lists(st.integers(0, 10**6), min_size=1, max_size=8),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


def edited(message: ChatMessage) -> ChatMessage:
    """Change one character of what a message says, or of a tool call's arguments."""
    if message.tool_calls:
        call, *others = message.tool_calls
        changed = ToolCall(call.name, call.arguments.replace("1", "2"), call.id)
        return ChatMessage(role=message.role, text=message.text, tool_calls=(changed, *others))
    return ChatMessage(role=message.role, text=f"{message.text}!")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_whatever_a_workflow_does_to_its_history(
    renderer: ChatRenderer, steps: list[tuple[str, str, list[int], bool]]
) -> None:
    """Random tokens, many of which are no valid text, under any handling of the history."""
    stop = renderer.stop_token_ids[0]
    answers: Iterator[list[int]] = iter(
        characterwise(renderer, ADD)
        if draws[0] % 4 == 0
        else [draw % stop for draw in draws] + [stop] * stopped
        for _, _, draws, stopped in steps
    )
    sampler = WatchedSampler(ScriptedSampler(lambda *_: ScriptedAnswer(next(answers))))
    tracked = tracker(renderer, sampler)

    async def run() -> None:
        histories: dict[str, list[ChatMessage]] = {}
        counts: Counter[str] = Counter()
        for number, (agent, step, _, _) in enumerate(steps):
            history = histories.setdefault(agent, [])
            match step:
                case _ if step == RETRY and history:
                    del history[-1]
                case _ if step == EDIT and history:
                    history[-1] = edited(history[-1])
                case _ if step == FORGET:
                    history.clear()
                case _ if step == DROP:
                    del history[:2]
            if step != RETRY or not history:
                history.append(ChatMessage(role=ChatRole.USER, text=f"Message {number}."))
            call = ChatCall(agent=agent, role="r", index=counts[agent], messages=tuple(history))
            counts[agent] += 1
            reply = (await tracked.respond(call)).with_call_ids(f"{agent}-{call.index}")
            history.append(kept(reply))

    asyncio.run(run())
    assert len(sampler.seen) == len(steps)
    check_exact(tracked.records, sampler)


def kept(reply: ChatReply) -> ChatMessage:
    return ChatMessage(
        role=ChatRole.ASSISTANT,
        text=reply.text,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_tokens_and_logprobs_are_those_of_the_model(
    renderer: ChatRenderer, pretrained: Pretrained, temperature: float
) -> None:
    """Agents under the embedded sampler; the model itself, asked afresh, is the oracle."""

    async def program(models: EpisodeModels) -> None:
        async def turns(name: str) -> None:
            agent = adder(models, name=name)
            for question in ("What is 1+2?", "Sure?", "Really?"):
                await agent.reply(UserMsg("user", question))

        await asyncio.gather(turns("ann"), turns("bob"))

    async def run() -> tuple[CallRecord, ...]:
        config = TransformersSamplerConfig(context_length=256, max_sessions=4)
        sampler = WatchedSampler(build_sampler(config, pretrained, renderer, policy_version=5))
        tracked = TokenPolicy(renderer=renderer, sampler=sampler, seed=0).open(
            EPISODE, params=SamplingParams(temperature=temperature, max_tokens=12), max_calls=20
        )
        try:
            await program(EpisodeModels(tracked))
        finally:
            await sampler.close()
        check_exact(tracked.records, sampler)
        return tracked.records

    records = asyncio.run(run())
    assert len(records) >= 6
    assert {record.completion.policy_version for record in records} == {5}
    for timelines in timelines_of(records).values():
        for timeline in timelines:
            with torch.no_grad():
                logits = pretrained.model(torch.tensor([timeline.token_ids])).logits[0]
            logprobs = (logits / temperature).log_softmax(-1)
            for span in timeline.spans:
                expected = [
                    logprobs[at - 1, timeline.token_ids[at]].item()
                    for at in range(span.start, span.stop)
                ]
                assert span.logprobs == pytest.approx(expected, abs=1e-4)
