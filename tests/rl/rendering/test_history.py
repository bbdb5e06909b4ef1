"""Invariant 1: a sampled token is never re-tokenised, and an altered message is another one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.chat.parsers import json_object
from astuner_rl.rendering.history import ChatHistory, RenderedPrompt
from astuner_rl.rendering.renderer import ChatRenderer

TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)


def user(text: str) -> ChatMessage:
    return ChatMessage(role=ChatRole.USER, text=text)


def tool(text: str, call_id: str) -> ChatMessage:
    return ChatMessage(role=ChatRole.TOOL, text=text, tool_call_id=call_id, name="add")


def said(reply: ChatReply) -> ChatMessage:
    """Return a reply as the message that an agent keeps of it."""
    return ChatMessage(
        role=ChatRole.ASSISTANT,
        text=reply.text,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
    )


@dataclass
class Agent:
    """Asks and answers calls of one history, counting them."""

    renderer: ChatRenderer
    tools: tuple[object, ...] = TOOLS

    def __post_init__(self) -> None:
        self.history = ChatHistory(self.renderer)
        self.prompts: list[RenderedPrompt] = []
        self.completions: list[list[int]] = []

    def render(self, *messages: ChatMessage) -> RenderedPrompt:
        """Render a call that is never answered."""
        return self.history.render(self._call(messages))

    def answer(self, messages: tuple[ChatMessage, ...], completion: list[int]) -> ChatReply:
        """Render a call and answer it with tokens."""
        call = self._call(messages)
        prompt = self.history.render(call)
        reply = self.history.record_completion(call, prompt, completion)
        self.prompts.append(prompt)
        self.completions.append(completion)
        return reply.with_call_ids(f"ann-{call.index}")

    def say(self, *messages: ChatMessage, text: str, stop: bool = True) -> ChatReply:
        """Answer a call with a text, in unusual tokens: one for every byte."""
        return self.answer(messages, self.bytewise(text, stop=stop))

    def bytewise(self, text: str, *, stop: bool = True) -> list[int]:
        tokens = [token for char in text for token in self.renderer.codec.encode(char)]
        return tokens + [self.renderer.stop_token_ids[0]] * stop

    def through(self, index: int) -> tuple[int, ...]:
        """Return prompt and completion of a call."""
        return (*self.prompts[index].token_ids, *self.completions[index])

    def _call(self, messages: tuple[ChatMessage, ...]) -> ChatCall:
        return ChatCall(
            agent="ann",
            role="ann",
            index=len(self.prompts),
            messages=messages,
            tools=self.tools,
        )


class BareJsonParser:
    """A reply that is a JSON object is a call of ``f``."""

    def parse(self, text: str) -> ChatReply:
        if json_object(text) is None:
            return ChatReply(text=text)
        return ChatReply(text="", tool_calls=(ToolCall("f", text),))


def test_the_worked_example_of_the_module():
    letters = [*'hiok{}":a12\n ', "<user>", "<assistant>", "<tool>", "<end>"]
    vocab = {letter: number for number, letter in enumerate(letters)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([letter for letter in letters if len(letter) > 1])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{% if m.tool_calls %}"
        "{{ m.tool_calls[0].function.arguments | tojson }}{% else %}{{ m.content }}{% endif %}"
        "<end>{{ '\\n' if m.role == 'assistant' }}{% endfor %}"
        "{{ '<assistant>' if add_generation_prompt }}"
    )
    agent = Agent(ChatRenderer(tokenizer, BareJsonParser()), tools=())

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.convert_tokens_to_ids(text.split("|")))

    completion = list(tokens('{|"|a|"|:|1|}|<end>'))
    reply = agent.answer((user("hi"),), completion)
    p0 = tokens("<user>|h|i|<end>|<assistant>")
    assert agent.prompts[0].token_ids == p0
    assert reply.tool_calls == (ToolCall("f", '{"a":1}'),)

    prompt = agent.render(user("hi"), said(reply), tool("ok", "ann-0-0"))
    assert prompt.text == '<user>hi<end><assistant>{"a": 1}<end>\n<tool>ok<end><assistant>'
    assert prompt.token_ids == (*p0, *completion, *tokens("\n|<tool>|o|k|<end>|<assistant>"))
    assert prompt.extends == 0

    altered = replace(said(reply), tool_calls=(ToolCall("f", '{"a":2}', "ann-0-0"),))
    prompt = agent.render(user("hi"), altered, tool("ok", "ann-0-0"))
    assert prompt.token_ids == (
        *p0,
        *tokens('{|"|a|"|:| |2|}|<end>|\n|<tool>|o|k|<end>|<assistant>'),
    )
    assert prompt.extends is None


CALL = {
    "qwen2_5": '<tool_call>\n{"arguments":{"b":2,"a":"ö"},"name":"add"}\n</tool_call>',
    "qwen3": (
        "<think>\nHm.\n</think>\n\n"
        '<tool_call>\n{"arguments":{"b":2,"a":"ö"},"name":"add"}\n</tool_call>'
    ),
    "llama3": '{"parameters":{"b":2,"a":"ö"},"name":"add"}',
    "mistral": '[TOOL_CALLS] [{"arguments":{"b":2,"a":"ö"},"name":"add"}]',
}


@pytest.mark.parametrize("family", CALL)
def test_a_call_keeps_its_tokens_where_the_template_spells_it_otherwise(family, renderer_of):
    agent = Agent(renderer_of(family))
    reply = agent.say(user("hi"), text=CALL[family])
    assert reply.tool_calls == (ToolCall("add", '{"b":2,"a":"ö"}'),)

    prompt = agent.render(user("hi"), said(reply), tool("3", "ann-0-0"))
    sampled = agent.through(0)
    assert CALL[family] not in prompt.text
    assert prompt.extends == 0
    assert prompt.token_ids[: len(sampled)] == sampled
    later = agent.renderer.codec.decode(prompt.token_ids[len(sampled) :])
    stop = agent.renderer.codec.token_text(agent.renderer.stop_token_ids[0])
    body_and_later = prompt.text[len(agent.prompts[0].text) :]
    assert later == body_and_later.partition(stop)[2]


@pytest.mark.parametrize("family", CALL)
def test_a_text_keeps_its_tokens(family, renderer_of):
    agent = Agent(renderer_of(family), tools=())
    reply = agent.say(user("hi"), text="There, there.")
    prompt = agent.render(user("hi"), said(reply), user("more"))
    assert prompt.extends == 0
    assert prompt.token_ids[: len(agent.through(0))] == agent.through(0)
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


@pytest.mark.parametrize("family", CALL)
@pytest.mark.parametrize(
    "altered",
    [
        ToolCall("addx", '{"b":2,"a":"ö"}'),
        ToolCall("add", '{"b":3,"a":"ö"}'),
        ToolCall("add", '{"b":2, "a":"ö"}'),  # the template spells this one as before
    ],
)
def test_an_altered_call_branches(family, altered, renderer_of):
    agent = Agent(renderer_of(family))
    reply = agent.say(user("hi"), text=CALL[family])
    memory = replace(said(reply), tool_calls=(replace(altered, id="ann-0-0"),))
    prompt = agent.render(user("hi"), memory, tool("3", "ann-0-0"))
    p0 = agent.prompts[0].token_ids
    assert prompt.extends is None
    assert prompt.token_ids[: len(p0)] == p0
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


def test_a_call_altered_two_prompts_ago_is_found_though_the_text_is_the_same(renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    first = agent.say(user("hi"), text=CALL["qwen2_5"])
    later = (tool("3", "ann-0-0"),)
    second = agent.say(user("hi"), said(first), *later, text="Three.")
    spaced = replace(said(first), tool_calls=(ToolCall("add", '{"b": 2, "a": "ö"}', "ann-0-0"),))
    prompt = agent.render(user("hi"), spaced, *later, said(second), user("more"))
    assert prompt.text.startswith(agent.prompts[1].text)
    assert prompt.extends is None
    assert prompt.token_ids[: len(agent.through(0))] != agent.through(0)


def test_calls_that_differ_in_arguments_only_never_merge(renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    spellings = ('{"a":1}', '{"a": 1}', '{"a":2}')
    replies = [
        agent.say(
            user("hi"),
            text=f'<tool_call>{{"name": "add", "arguments": {spelling}}}</tool_call>',
        )
        for spelling in spellings
    ]
    for index, reply in enumerate(replies):
        prompt = agent.render(user("hi"), said(reply), tool("1", f"ann-{index}-0"))
        assert prompt.extends == index
        assert prompt.token_ids[: len(agent.through(index))] == agent.through(index)


def test_a_bounded_history_forgets_its_oldest_calls(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    agent.history = ChatHistory(agent.renderer, most_calls=2)
    # The oldest prompt is the longest: what counts is the time.
    questions = [user("hi there"), user("ho"), user("h")]
    replies = [agent.say(question, text="There, there.") for question in questions]
    prompts = [
        agent.render(question, said(reply), user("more"))
        for question, reply in zip(questions, replies, strict=True)
    ]
    assert [prompt.extends for prompt in prompts] == [None, 1, 2]
    assert prompts[0].token_ids == tuple(agent.renderer.codec.encode(prompts[0].text))


def test_white_space_that_the_template_trims_keeps_its_tokens(renderer_of):
    agent = Agent(renderer_of("llama3"), tools=())
    reply = agent.say(user("hi"), text=" Hello.\n")
    assert reply.text == " Hello.\n"
    prompt = agent.render(user("hi"), said(reply), user("more"))
    assert "\n\nHello.<|eot_id|>" in prompt.text
    assert prompt.extends == 0


def test_a_template_that_drops_part_of_a_turn_branches(renderer_of):
    agent = Agent(renderer_of("llama3"))  # renders the call and leaves out the text beside it
    reply = agent.say(user("hi"), text="Now.<|python_tag|>" + CALL["llama3"])
    assert reply.text == "Now."
    prompt = agent.render(user("hi"), said(reply), tool("3", "ann-0-0"))
    assert prompt.extends is None


def test_tools_that_move_in_the_template_branch(renderer_of):
    agent = Agent(renderer_of("mistral"))  # puts the tools in front of the last user message
    reply = agent.say(user("hi"), text="Hello.")
    prompt = agent.render(user("hi"), said(reply), user("more"))
    assert prompt.extends is None
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


def test_thinking_that_the_template_strips_branches(renderer_of):
    agent = Agent(renderer_of("qwen3"))
    first = agent.say(user("hi"), text=CALL["qwen3"])
    loop = (user("hi"), said(first), tool("3", "ann-0-0"))
    second = agent.say(*loop, text="<think>\nSo.\n</think>\n\nThree.")
    assert agent.prompts[1].extends == 0  # within the tool loop the thinking is kept

    prompt = agent.render(*loop, said(second), user("more"))
    p0 = agent.prompts[0].token_ids
    assert "<think>" not in prompt.text
    assert prompt.extends is None
    assert prompt.token_ids[: len(p0)] == p0
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


def test_even_an_empty_block_of_thinking_that_is_stripped_branches(renderer_of):
    agent = Agent(renderer_of("qwen3"), tools=())
    reply = agent.say(user("hi"), text="<think>\n\n</think>\n\nHello.")
    assert agent.render(user("hi"), said(reply), user("more")).extends is None


def test_thinking_that_the_agent_dropped_branches(renderer_of):
    agent = Agent(renderer_of("qwen3"))
    reply = agent.say(user("hi"), text=CALL["qwen3"])
    memory = replace(said(reply), thinking="")
    assert agent.render(user("hi"), memory, tool("3", "ann-0-0")).extends is None


def test_thinking_that_the_agent_added_branches(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())  # whose template ignores thinking
    reply = agent.say(user("hi"), text="Hello.")
    memory = replace(said(reply), thinking="Hm.")
    assert agent.render(user("hi"), memory, user("more")).extends is None


def test_the_end_of_turn_of_a_cut_completion_is_context(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    reply = agent.say(user("hi"), text="There th", stop=False)
    prompt = agent.render(user("hi"), said(reply), user("more"))
    sampled = agent.through(0)
    assert prompt.extends == 0
    assert prompt.token_ids[: len(sampled)] == sampled
    assert prompt.token_ids[len(sampled)] == agent.renderer.stop_token_ids[0]
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


def test_the_end_of_turn_of_a_cut_completion_is_context_where_the_template_trims(renderer_of):
    agent = Agent(renderer_of("llama3"), tools=())
    reply = agent.say(user("hi"), text="There ", stop=False)
    prompt = agent.render(user("hi"), said(reply), user("more"))
    sampled = agent.through(0)
    assert prompt.extends == 0
    assert prompt.token_ids[: len(sampled)] == sampled
    assert prompt.token_ids[len(sampled)] == agent.renderer.stop_token_ids[0]


@pytest.mark.parametrize("text", ["<think>", "<think></think>", "<think>\n\n</think>\n\n"])
def test_a_template_that_shows_no_thinking_branches_even_at_an_empty_block(text, renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    reply = agent.say(user("hi"), text=text)
    assert reply.text == reply.thinking == ""
    assert agent.render(user("hi"), said(reply), user("more")).extends is None


def test_another_stop_token_than_the_templates_is_kept_without_the_templates(renderer_of):
    agent = Agent(renderer_of("llama3"), tools=())
    end_of_turn, end_of_text = agent.renderer.stop_token_ids
    reply = agent.answer((user("hi"),), [*agent.bytewise("Hello.", stop=False), end_of_text])
    prompt = agent.render(user("hi"), said(reply), user("more"))
    sampled = agent.through(0)
    assert prompt.extends == 0
    assert prompt.token_ids[: len(sampled)] == sampled
    assert prompt.token_ids[len(sampled)] != end_of_turn


def test_a_stop_token_spelled_by_other_tokens_stays_text(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    reply = agent.say(user("hi"), text="I say <|im_end|>!")
    assert reply.text == "I say <|im_end|>!"
    prompt = agent.render(user("hi"), said(reply), user("more"))
    assert prompt.extends == 0
    assert prompt.token_ids[: len(agent.through(0))] == agent.through(0)


def test_a_reply_that_did_not_come_back_leaves_its_prompt_in_use(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    first = agent.say(user("hi"), text="One.")
    second = agent.say(user("hi"), said(first), user("more"), text="Two.")
    altered = replace(said(second), text="2.")
    prompt = agent.render(user("hi"), said(first), user("more"), altered, user("more"))
    p1 = agent.prompts[1].token_ids
    assert prompt.extends == 0  # a fork: call 1 extends call 0 too
    assert prompt.token_ids[: len(p1)] == p1
    assert agent.renderer.codec.decode(prompt.token_ids) == prompt.text


def test_the_longest_conversation_is_extended_not_the_latest(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    first = agent.say(user("hi"), text="One.")
    second = agent.say(user("hi"), said(first), user("more"), text="Two.")
    again = agent.say(user("hi"), text="One.")
    assert again.text == first.text
    prompt = agent.render(user("hi"), said(first), user("more"), said(second), user("more"))
    assert prompt.extends == 1


def test_of_equal_answers_to_one_prompt_the_latest_is_extended(renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    reply = agent.say(user("hi"), text="One.")
    agent.say(user("hi"), text="One.")
    assert agent.render(user("hi"), said(reply), user("more")).extends == 1


def test_other_tools_are_another_conversation(renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    reply = agent.say(user("hi"), text="One.")
    agent.tools = ()
    assert agent.render(user("hi"), said(reply), user("more")).extends is None


def test_the_agents_of_an_episode_do_not_share_a_history(renderer_of):
    ann, bob = Agent(renderer_of("qwen2_5")), Agent(renderer_of("qwen2_5"))
    reply = ann.say(user("hi"), text="One.")
    assert bob.render(user("hi"), said(reply), user("more")).extends is None


def test_token_counts_are_reported(renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    reply = agent.say(user("hi"), text="ok")
    assert reply.prompt_tokens == len(agent.prompts[0].token_ids)
    assert reply.completion_tokens == 3  # o, k, end of turn


NAMES = st.text(alphabet="abc_", min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)


@st.composite
def written_calls(draw: st.DrawFn) -> str:
    """Draw a Hermes tool call in one of many spellings, perhaps after some text."""
    fields = {"name": draw(NAMES), "arguments": draw(st.dictionaries(NAMES, VALUES, max_size=3))}
    if draw(st.booleans()):
        fields = dict(reversed(fields.items()))
    written = json.dumps(
        fields, indent=draw(st.sampled_from([None, 0, 2])), ensure_ascii=draw(st.booleans())
    )
    return draw(st.sampled_from(["", "So. ", "So.\n\n"])) + f"<tool_call>{written}</tool_call>"


TURNS = st.lists(
    st.tuples(
        # Any tokens at all that end no turn (ids 0-2 are special), or a call in text.
        st.lists(st.integers(3, 330), max_size=12) | written_calls(),
        st.booleans(),  # whether a stop token is sampled
        st.text(max_size=8),  # what the agent is told next
    ),
    min_size=1,
    max_size=5,
)
slow = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def converse(agent: Agent, turns: list[tuple[list[int] | str, bool, str]]) -> list[ChatMessage]:
    """Play a conversation in which every message comes back unaltered; return its messages."""
    messages = [user("hi")]
    for completion, stop, told in turns:
        if isinstance(completion, str):
            tokens = agent.bytewise(completion, stop=stop)
        else:
            tokens = completion + [agent.renderer.stop_token_ids[0]] * stop
        reply = agent.answer(tuple(messages), tokens)
        messages.append(said(reply))
        messages += [tool(told, call.id) for call in reply.tool_calls] or [user(told)]
    return messages


@slow
@given(turns=TURNS)
def test_every_sampled_token_is_in_every_later_prompt(turns, renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    agent.prompts.append(agent.render(*converse(agent, turns)))
    for index, (_, prompt) in enumerate(pairwise(agent.prompts)):
        sampled = agent.through(index)
        assert prompt.extends == index
        assert prompt.token_ids[: len(sampled)] == sampled
        # What follows is the template's own text, to the character.
        later = agent.renderer.codec.decode(prompt.token_ids[len(sampled) :])
        assert prompt.text.endswith(later)
        assert later.endswith("<|im_start|>assistant\n")


@slow
@given(turns=TURNS, data=st.data())
def test_altering_a_message_branches_there(turns, data, renderer_of):
    agent = Agent(renderer_of("qwen2_5"))
    messages = converse(agent, turns)
    positions = [p for p, message in enumerate(messages) if message.role is ChatRole.ASSISTANT]
    chosen = data.draw(st.integers(0, len(positions) - 1))
    message = messages[positions[chosen]]
    if message.tool_calls and data.draw(st.booleans()):
        call = message.tool_calls[0]
        if data.draw(st.booleans()):
            call = replace(call, name=call.name + "x")
        else:
            at = data.draw(st.integers(0, len(call.arguments) - 1))
            char = data.draw(st.characters(codec="utf-8"))
            assume(char != call.arguments[at])
            raw = call.arguments[:at] + char + call.arguments[at + 1 :]
            call = replace(call, arguments=raw)
        altered = replace(message, tool_calls=(call, *message.tool_calls[1:]))
    else:
        altered = replace(message, text=message.text + data.draw(st.text(min_size=1)))
    messages[positions[chosen]] = altered

    prompt = agent.render(*messages)
    assert prompt.extends == (chosen - 1 if chosen else None)
    reused = agent.prompts[chosen]
    assert prompt.token_ids[: len(reused.token_ids)] == reused.token_ids
    fresh = agent.renderer.codec.decode(prompt.token_ids[len(reused.token_ids) :])
    assert reused.text + fresh == prompt.text


@slow
@given(texts=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=4))
def test_what_the_sampler_sees_decodes_to_the_templates_text(texts, renderer_of):
    agent = Agent(renderer_of("qwen2_5"), tools=())
    messages = [user("hi")]
    for completion, told in texts:
        reply = agent.say(*messages, text=completion)
        assert agent.renderer.codec.decode(agent.prompts[-1].token_ids) == agent.prompts[-1].text
        messages += [said(reply), user(told)]
