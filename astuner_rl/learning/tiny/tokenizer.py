r"""A small byte-level tokenizer and its chat template, made from the text of demonstrations.

Tokens are few where an agent's replies are long: a word with the space before it, a number below
1000, a role header and the scaffolding of a tool call are one token each, and any other text falls
back to pieces and finally to bytes, so every text can be encoded. A tool call in tokens::

    <tool_call> \n{"name": "calculator", "arguments": { "expression": " 12 * 3 "}}\n </tool_call>

Byte-level BPE: Sennrich et al. 2016 (arXiv:1508.07909), on bytes as in GPT-2. Calls are written in
the format of Hermes and Qwen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from astuner_gym.chat.messages import ChatRole, Conversation
from astuner_gym.errors import SettingError
from astuner_rl.rendering.template import ChatTemplate

END_OF_TURN: Final = "<|im_end|>"
PADDING: Final = "<|pad|>"
HEADERS: Final = tuple(f"<|im_start|>{role.value}\n" for role in ChatRole)
"""ChatML's role headers, the line break included: one token each."""
CALL_MARKS: Final = ("<tool_call>", "</tool_call>")
LARGEST_NUMBER: Final = 999
"""Numbers from 0 to here are one token; longer ones are cut into three digits from the left."""

_MARKS: Final = (PADDING, END_OF_TURN, *HEADERS, *CALL_MARKS)
_NUMBERS: Final = tuple(str(number) for number in range(10, LARGEST_NUMBER + 1))
"""Those that are not a byte."""
SMALLEST_VOCABULARY: Final = 256 + len(_MARKS) + len(_NUMBERS)
"""Every byte, mark and number."""

_PIECES: Final = "|".join(
    (
        r'\s*\{"name": "[^"]*", "arguments": \{',  # a call's opening, with the tool's name
        r'"\w+": "?',  # an argument's name, up to its value
        r'"?\}\}\s*',  # a call's end
        r"\p{N}{1,3}",
        r" ?\p{L}+",
        r" ?[^\s\p{L}\p{N}]+",
        r"\s+",
    )
)

CHAT_TEMPLATE: Final = """\
{%- macro call(function) -%}
<tool_call>
{"name": "{{ function.name }}", "arguments": {{ function.arguments if function.arguments is string \
else function.arguments | tojson }}}
</tool_call>
{%- endmacro -%}
{%- set instructed = messages and messages[0].role == "system" -%}
{%- if instructed or tools -%}
{{- "<|im_start|>system\\n" -}}
{%- if instructed -%}{{- messages[0].content -}}{%- endif -%}
{%- for tool in tools or [] -%}
{{- "\\n" if instructed or not loop.first -}}
{{- tool.function.name -}}({{- ((tool.function.parameters or {}).properties or {}) | join(", ") -}})
{%- endfor -%}
{{- "<|im_end|>" -}}
{%- endif -%}
{%- for message in messages -%}
{%- if not (loop.first and instructed) -%}
{{- "<|im_start|>" + message.role + "\\n" -}}
{{- message.content or "" -}}
{%- for tool_call in message.tool_calls or [] -%}
{{- "\\n" if message.content or not loop.first -}}
{{- call(tool_call.function or tool_call) -}}
{%- endfor -%}
{{- "<|im_end|>" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
"""Each message as ``<|im_start|>role``, a line break, its text and calls, and ``<|im_end|>``.

Tools are listed by name and parameter names alone. A prompt is a prefix of every longer one.
"""


def train_tokenizer(
    conversations: Sequence[Conversation], *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """Return a tokenizer, with its chat template, whose pieces come from ``conversations``.

    Args:
        conversations: Their text; numbers in it do not matter, since all are in the vocabulary.
        vocab_size: At most so many tokens; fewer if the text gives no more pieces.

    Raises:
        SettingError: ``vocab_size`` does not hold every byte, number and mark.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise SettingError(
            f"model.vocab_size must be >= {SMALLEST_VOCABULARY} to hold every byte, number and "
            f"mark, got {vocab_size}; set it to {SMALLEST_VOCABULARY} or more"
        )
    backend = _backend(BPE())
    template = ChatTemplate(_wrapped(backend))
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(_NUMBERS),
        special_tokens=[*_MARKS],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(conversations, template), trainer)
    return _wrapped(_backend(_with_numbers(backend)))


def _wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        extra_special_tokens=[*HEADERS],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _backend(model: BPE) -> Tokenizer:
    backend = Tokenizer(model)
    backend.pre_tokenizer = PreTokenizers(
        [
            Split(Regex(_PIECES), "isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = ByteLevelDecoder()
    # Ordinary tokens, as in Qwen's tokenizers: a parser has to see them after decoding.
    backend.add_tokens([AddedToken(mark, normalized=False) for mark in CALL_MARKS])
    backend.add_special_tokens(
        [AddedToken(mark, normalized=False) for mark in (PADDING, END_OF_TURN, *HEADERS)]
    )
    return backend


def _with_numbers(trained: Tokenizer) -> BPE:
    """Return the trained model with every number up to ``LARGEST_NUMBER`` in its vocabulary."""
    model = json.loads(trained.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    for number in _NUMBERS:
        vocab[number] = len(vocab)
    merges = [(left, right) for left, right in model["merges"]]
    # A piece that is in the vocabulary is one token even where no merges lead to it: numbers.
    return BPE(vocab=vocab, merges=merges, ignore_merges=True)


def _texts(conversations: Iterable[Conversation], template: ChatTemplate) -> Iterator[str]:
    """Yield what stands between the marks, with every number as 0: it needs no merges."""
    marks = re.compile("|".join(map(re.escape, _MARKS)))
    for conversation in conversations:
        text = template.render(
            conversation.messages, conversation.tools, add_generation_prompt=False
        )
        yield from marks.split(re.sub(r"\d+", "0", text))
