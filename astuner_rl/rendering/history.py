r"""One agent's conversation in tokens: what was sampled is never tokenised again.

A chat template turns the whole conversation into text for every call, but text does not determine
tokens: the policy may have sampled an unusual split of a word, and the template may spell the
policy's JSON with other spaces. Training on re-tokenised text would train on tokens that nobody
sampled. So the history keeps the tokens of every call, and a later prompt takes them over where
its text shows that the same conversation goes on.

Worked example, one letter or ``<tag>`` a token, prompt tokens P and completion tokens C::

    call 0   text    <user>hi<end><assistant>
             sampled {"a":1}<end>                   the arguments of a tool call, no spaces
    call 1   text    <user>hi<end><assistant>{"a": 1}<end>\n<tool>ok<end><assistant>
                     ----------- P0 ----------body --
             The text starts with P0, the next message is the reply of call 0, and the body says
             the same as what was sampled: the turn was kept, if in another spelling. So
             ids     P0 + C0 + tokens of "\n<tool>ok<end><assistant>",  extends = 0
    call 2   as call 1, but the agent's memory has changed the reply of call 0 to {"a":2}
             The text starts with P0, but the next message is not the reply of call 0. So
             ids     P0 + tokens of all that follows,                    extends = None

In call 2 the sampled tokens are absent: the policy really sees other ones, and they are context.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole
from astuner_gym.chat.parsers import THINK_CLOSE, THINK_OPEN, json_object
from astuner_rl.rendering.renderer import ChatRenderer


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """What a sampler is given for one call."""

    token_ids: tuple[int, ...]
    """[P] the tokens of the prompt."""
    text: str
    """What the chat template gives. The tokens decode to it, except that an earlier reply keeps
    the policy's spelling where the template has its own."""
    extends: int | None
    """Index of the latest call whose prompt and completion the tokens begin with; None if they
    begin with no completion. Two calls may extend the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """A call with its tokens on both sides."""

    index: int
    messages: tuple[ChatMessage, ...]
    prompt: RenderedPrompt
    completion_ids: tuple[int, ...]
    completion_text: str
    """Decoded, stop token included."""
    reply: ChatReply


class ChatHistory:
    """The calls of one agent in one episode.

    Args:
        renderer: Of the model that answers.
        most_calls: Answered calls that are kept, the latest ones; None for all. A prompt that goes
            on from a call that is no longer kept is rendered anew.
    """

    def __init__(self, renderer: ChatRenderer, *, most_calls: int | None = None) -> None:
        self._renderer = renderer
        self._most_calls = most_calls
        # By the length of the prompt's text, then by the time of the answer.
        self._answered: list[_Answered] = []

    def render(self, call: ChatCall) -> RenderedPrompt:
        """Return the prompt of a call.

        Raises:
            RenderingError: The chat template refuses the call's messages or tools.
        """
        text = self._renderer.template.render(call.messages, call.tools, add_generation_prompt=True)
        # The longest earlier prompt in the text holds most of what was sampled. If its own reply
        # did not come back, its tokens are still those of the conversation up to there.
        longest: _Answered | None = None
        for earlier in reversed(self._answered):
            if longest is not None and len(earlier.prompt.text) < len(longest.prompt.text):
                break
            if not _begins_with(call.messages, text, earlier):
                continue
            longest = longest or earlier
            after_turn = self._text_after_turn(call.messages, text, earlier)
            if after_turn is not None:
                return RenderedPrompt(
                    token_ids=(
                        *earlier.prompt.token_ids,
                        *earlier.completion_ids,
                        *self._renderer.codec.encode_later(after_turn),
                    ),
                    text=text,
                    extends=earlier.index,
                )
        if longest is None:
            return RenderedPrompt(
                token_ids=tuple(self._renderer.codec.encode(text)), text=text, extends=None
            )
        later = self._renderer.codec.encode_later(text[len(longest.prompt.text) :])
        return RenderedPrompt(
            token_ids=(*longest.prompt.token_ids, *later),
            text=text,
            extends=longest.prompt.extends,
        )

    def record_completion(
        self, call: ChatCall, prompt: RenderedPrompt, completion_ids: Sequence[int]
    ) -> ChatReply:
        """Take what was sampled for a rendered call and return what it says, with token counts."""
        stopped = self._renderer.is_stopped(completion_ids)
        stop = len(completion_ids) - stopped
        body = self._renderer.codec.decode(completion_ids[:stop])
        reply = replace(
            self._renderer.parser.parse(body),
            prompt_tokens=len(prompt.token_ids),
            completion_tokens=len(completion_ids),
        )
        stop_text = self._renderer.codec.token_text(completion_ids[-1]) if stopped else ""
        self.record(call, prompt, completion_ids=completion_ids, text=body + stop_text, reply=reply)
        return reply

    def record(
        self,
        call: ChatCall,
        prompt: RenderedPrompt,
        *,
        completion_ids: Sequence[int],
        text: str,
        reply: ChatReply,
    ) -> None:
        """Take the tokens, text (stop token included) and meaning of a rendered call's answer."""
        answered = _Answered(
            index=call.index,
            messages=call.messages,
            prompt=prompt,
            completion_ids=tuple(completion_ids),
            completion_text=text,
            reply=reply,
        )
        insort(self._answered, answered, key=lambda earlier: len(earlier.prompt.text))
        if self._most_calls is not None and len(self._answered) > self._most_calls:
            places = range(len(self._answered))
            del self._answered[min(places, key=lambda place: self._answered[place].index)]

    def _text_after_turn(
        self, messages: tuple[ChatMessage, ...], text: str, earlier: _Answered
    ) -> str | None:
        """Return what follows an earlier call's turn, or None if its reply did not come back."""
        position = len(earlier.messages)
        if position == len(messages) or not _is_reply(messages[position], earlier.reply):
            return None
        start = len(earlier.prompt.text)
        if text.startswith(earlier.completion_text, start):
            return text[start + len(earlier.completion_text) :]
        end = self._renderer.find_turn_end(text, start)
        if end is None:
            return None
        body = text[start : end.start]
        spelled = _meaning(self._renderer.parser.parse(body), body)
        if spelled != _meaning(earlier.reply, earlier.completion_text):
            return None
        # An end-of-turn token that the policy did not sample is context, written by the template.
        stopped = self._renderer.is_stopped(earlier.completion_ids)
        return text[end.stop if stopped else end.start :]


def _begins_with(messages: tuple[ChatMessage, ...], text: str, earlier: _Answered) -> bool:
    """Return whether an earlier call's prompt is a prefix, as text and as messages.

    Text alone does not tell ``{"a":1}`` from ``{"a": 1}``, which a template spells alike.
    """
    return (
        text.startswith(earlier.prompt.text)
        and messages[: len(earlier.messages)] == earlier.messages
    )


def _is_reply(message: ChatMessage, reply: ChatReply) -> bool:
    """Return whether a message is a reply unaltered; an agent may drop the thinking."""
    return (
        message.role is ChatRole.ASSISTANT
        and message.text == reply.text
        and message.tool_calls == reply.tool_calls
        and message.thinking in ("", reply.thinking)
    )


def _meaning(reply: ChatReply, spelling: str) -> tuple[object, ...]:
    """Return what must agree for a template's spelling of a turn to stand for the policy's.

    White space at the edges and the spelling of JSON may differ. Whether there is a block of
    thinking may not, even an empty one: a template that strips it shows the policy another turn.
    """
    calls = tuple((call.name, _canonical_json(call.arguments)) for call in reply.tool_calls)
    shows_thinking = THINK_OPEN in spelling or THINK_CLOSE in spelling
    return reply.text.strip(), reply.thinking.strip(), shows_thinking, calls


def _canonical_json(arguments: str) -> str:
    value = json_object(arguments)
    return arguments if value is None else json.dumps(value, sort_keys=True)
