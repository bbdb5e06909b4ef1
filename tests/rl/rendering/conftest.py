"""Small byte-level tokenizers with the special tokens and real chat templates of four families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.parsers import reply_parser
from astuner_rl.rendering.renderer import ChatRenderer

TEMPLATES = Path(__file__).parent / "templates"

CORPUS = (
    "You are a helpful assistant. The answer is in the arguments of the call.",
    '{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "look", "parameters": {"at": "x"}}',
    "system user assistant tool ipython the and that there then this thing think thought",
)


@dataclass(frozen=True)
class Family:
    """A model family: its template file, special tokens, added plain tokens and reply format."""

    template: str
    special: tuple[str, ...]
    eos: str
    parser: str
    bos: str | None = None
    added: tuple[str, ...] = ()


FAMILIES = {
    "qwen2_5": Family(
        template="qwen2_5.jinja",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        parser="hermes",
        added=("<tool_call>", "</tool_call>"),
    ),
    "qwen3": Family(
        template="qwen3.jinja",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        parser="hermes",
        added=("<tool_call>", "</tool_call>", "<think>", "</think>"),
    ),
    "llama3": Family(
        template="llama3_1.jinja",
        special=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        parser="llama3",
    ),
    "mistral": Family(
        template="mistral_v3_tekken.jinja",
        special=(
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[TOOL_CALLS]",
        ),
        bos="<s>",
        eos="</s>",
        parser="mistral",
    ),
}


@cache
def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of about 340 tokens for one family."""
    spec = FAMILIES[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=list(spec.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_tokens([AddedToken(token, special=False) for token in spec.added])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=spec.bos,
        eos_token=spec.eos,
        chat_template=(TEMPLATES / spec.template).read_text(encoding="utf-8"),
    )


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[[str], PreTrainedTokenizerFast]:
    """Build a family's tokenizer."""
    return build_tokenizer


@pytest.fixture(scope="session")
def renderer_of() -> Callable[[str], ChatRenderer]:
    """Build a family's renderer; it holds no state of an episode, so tests share it."""

    @cache
    def build(family: str) -> ChatRenderer:
        return ChatRenderer(build_tokenizer(family), reply_parser(FAMILIES[family].parser))

    return build
