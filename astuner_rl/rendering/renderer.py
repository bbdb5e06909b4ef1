"""What one model needs to talk: its template, its tokens, its reply format, its stop tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astuner_gym.chat.messages import ChatMessage, ChatRole
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.errors import SettingError
from astuner_gym.task import JsonValue
from astuner_rl.rendering.codec import TokenCodec
from astuner_rl.rendering.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Where an assistant's turn ends in a rendered text: ``text[start:stop]`` is a stop token."""

    start: int
    stop: int


class ChatRenderer:
    """Renders conversations for one model and reads its completions; shared by all episodes.

    Args:
        tokenizer: A tokenizer with a Rust backend and a chat template.
        parser: Reads the model's text.
        stop_token_ids: Stop tokens besides those that are found, such as the further ones of the
            model's generation config.
        template_variables: Further variables of the template, such as ``enable_thinking``.

    Raises:
        SettingError: There is no usable template or no stop token.
        RenderingError: The template refuses even one question and one answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        parser: ReplyParser,
        *,
        stop_token_ids: Sequence[int] = (),
        template_variables: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.template = ChatTemplate(tokenizer, template_variables)
        self.parser = parser
        found = _end_of_turn_ids(tokenizer, self.template)
        if not found:
            raise SettingError(
                "a model must have a stop token, but its tokenizer has no eos_token and its chat "
                "template ends no turn with a special token; set tokenizer.eos_token"
            )
        self.stop_token_ids: tuple[int, ...] = tuple(dict.fromkeys((*found, *stop_token_ids)))
        """Tokens that end a completion, the template's end-of-turn token first."""
        self.codec = TokenCodec(tokenizer, anchor_id=found[0])
        self._stop_texts = tuple(self.codec.token_text(stop) for stop in self.stop_token_ids)

    def is_stopped(self, completion_ids: Sequence[int]) -> bool:
        """Return whether a completion ends with a stop token."""
        return bool(completion_ids) and completion_ids[-1] in self.stop_token_ids

    def find_turn_end(self, text: str, start: int) -> TurnEnd | None:
        """Return the first stop token in a rendered text from ``start``, or None."""
        ends = [
            TurnEnd(position, position + len(stop))
            for stop in self._stop_texts
            if (position := text.find(stop, start)) >= 0
        ]
        return min(ends, key=lambda end: end.start, default=None)


def _end_of_turn_ids(tokenizer: PreTrainedTokenizerFast, template: ChatTemplate) -> list[int]:
    """Return the token with which the template ends an assistant's turn, then eos, if any."""
    answer = "astuner"
    turn = [
        ChatMessage(role=ChatRole.USER, text="user"),
        ChatMessage(role=ChatRole.ASSISTANT, text=answer),
    ]
    text = template.render(turn, (), add_generation_prompt=False)
    ending = text[text.rindex(answer) + len(answer) :]
    ids = []
    if ending:
        first = tokenizer.encode(ending, add_special_tokens=False)[0]
        if first in tokenizer.all_special_ids or first in tokenizer.added_tokens_decoder:
            ids.append(first)
    eos = tokenizer.eos_token_id
    if eos is not None and eos not in ids:
        ids.append(eos)
    return ids
