"""Text as tokens and back, one piece of a conversation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from astuner_gym.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TokenCodec:
    """Encodes the start of a conversation, or a later piece of it as it would stand there.

    It works on its own copy of the tokenizer's backend: truncation that another user of the
    tokenizer switches on would cut prompts silently.

    Args:
        tokenizer: A tokenizer with a Rust backend.
        anchor_id: A special token, such as the end-of-turn token.

    Raises:
        SettingError: The anchor is not a token of its own in text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, anchor_id: int) -> None:
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._anchor = self.token_text(anchor_id)
        if self.encode(self._anchor) != [anchor_id]:
            raise SettingError(
                f"the end-of-turn token must be one special token, but {self._anchor!r} does not "
                f"encode to [{anchor_id}]; add it to the tokenizer as a special token"
            )

    def encode(self, text: str) -> list[int]:
        """Return the token ids [T] of a conversation from its start; none is added."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_later(self, text: str) -> list[int]:
        """Return the token ids [T] of a piece that follows other text.

        It is encoded behind the anchor, which is then taken off: some tokenizers put a space in
        front of whatever starts a text, and some special tokens swallow the space after them.
        """
        return self.encode(self._anchor + text)[1:] if text else []

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included."""
        text: str = self._backend.decode(token_ids, skip_special_tokens=False)
        return text

    def decode_each(self, token_ids: Sequence[int]) -> list[str]:
        """Return the text of every token by itself [T]; a part of a character becomes U+FFFD."""
        return [self.decode([token_id]) for token_id in token_ids]

    @property
    def special_texts(self) -> tuple[str, ...]:
        """How the special tokens are spelled in text, which is thus no text to the model."""
        added = self._backend.get_added_tokens_decoder().values()
        return (self._anchor, *(each.content for each in added if each.special))

    def token_text(self, token_id: int) -> str:
        """Return how a special token is spelled in text."""
        return self._backend.id_to_token(token_id) or ""
