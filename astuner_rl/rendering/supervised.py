"""Conversations to learn from, in the tokens that a policy would have seen and sampled.

Each assistant message is treated as if the policy had just written it: its body and end-of-turn
token, as the chat template spells them, are a completion of their own, and what the template adds
after them is context of the next call. Warm start and reinforcement learning thus train the same
split into tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, Conversation
from astuner_rl.errors import RenderingError
from astuner_rl.rendering.history import ChatHistory, RenderedPrompt
from astuner_rl.rendering.renderer import ChatRenderer


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedRow:
    """One row of tokens to learn from."""

    token_ids: tuple[int, ...]
    """[T] context and targets in order."""
    sampled_mask: tuple[bool, ...]
    """[T] True on the tokens of assistant messages, end-of-turn included."""


@dataclass(slots=True)
class _GrowingRow:
    token_ids: tuple[int, ...] = ()
    sampled_mask: list[bool] = field(default_factory=list)


def render_conversation(
    renderer: ChatRenderer, conversation: Conversation
) -> tuple[SupervisedRow, ...]:
    r"""Return the rows of a conversation; every assistant message is a target in exactly one.

    There is one row, unless the template alters earlier turns (Qwen3 strips their thinking): then
    each turn whose prompt does not extend the turn before it begins a row. Messages after the
    last assistant message are left out.

    Example: user ``hi``, assistant ``yo``, user ``?``, assistant ``ok`` in ChatML, one row::

        <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n   mask False
        yo<|im_end|>                                              mask True
        \n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n  mask False
        ok<|im_end|>                                              mask True

    Raises:
        RenderingError: There is no assistant message, or one that the template does not render
            as a completion of its own prompt.
    """
    history = ChatHistory(renderer)
    rows: dict[int, _GrowingRow] = {}  # by the call that ends them
    targets = 0
    for position, message in enumerate(conversation.messages):
        if message.role is not ChatRole.ASSISTANT:
            continue
        call = ChatCall(
            agent="assistant",
            role="assistant",
            index=targets,
            messages=conversation.messages[:position],
            tools=conversation.tools,
        )
        prompt = history.render(call)
        text = _completion_text(renderer, call, message, prompt)
        completion_ids = renderer.codec.encode_later(text)
        reply = ChatReply(
            text=message.text, thinking=message.thinking, tool_calls=message.tool_calls
        )
        history.record(call, prompt, completion_ids=completion_ids, text=text, reply=reply)

        extended = None if prompt.extends is None else rows.pop(prompt.extends, None)
        row = extended or _GrowingRow()
        row.sampled_mask += [False] * (len(prompt.token_ids) - len(row.sampled_mask))
        row.sampled_mask += [True] * len(completion_ids)
        row.token_ids = (*prompt.token_ids, *completion_ids)
        rows[call.index] = row
        targets += 1
    if not targets:
        raise RenderingError(
            "a conversation to learn from must hold an assistant message, got the roles "
            f"[{', '.join(message.role for message in conversation.messages)}]; add one, or "
            "leave the conversation out"
        )
    return tuple(
        SupervisedRow(token_ids=row.token_ids, sampled_mask=tuple(row.sampled_mask))
        for row in rows.values()
    )


def _completion_text(
    renderer: ChatRenderer, call: ChatCall, message: ChatMessage, prompt: RenderedPrompt
) -> str:
    """Return body and end-of-turn token of a message as the template writes them."""
    arguments = (tool_call.arguments for tool_call in message.tool_calls)
    for part in (message.text, message.thinking, *arguments):
        stop = renderer.find_turn_end(part, 0)
        if stop is not None:
            raise RenderingError(
                "an assistant message must not spell a stop token, because a policy would stop "
                f"there, but message {len(call.messages)} holds {part[stop.start : stop.stop]!r}; "
                "take it out"
            )
    text = renderer.template.render(
        (*call.messages, message), call.tools, add_generation_prompt=False
    )
    start = len(prompt.text)
    end = renderer.find_turn_end(text, start)
    if end is None or not text.startswith(prompt.text):
        raise RenderingError(
            "an assistant message must be rendered as its prompt, its body and an end-of-turn "
            f"token, but message {len(call.messages)} is rendered as {text[-200:]!r} where the "
            f"prompt ends with {prompt.text[-200:]!r}; set the template's variables so that the "
            "two agree (such as enable_thinking), or use another template"
        )
    return text[start : end.stop]
