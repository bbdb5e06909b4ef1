"""Builds the tiny model from an environment's demonstrations, once for every recipe.

The recipe is what the model depends on: settings, demonstrations, the code of this package and
the libraries' versions. Its hash names a folder in the cache. A folder appears there whole or not
at all: it is written under another name and then renamed, so processes that build the same recipe
at once do not disturb each other, and the first to finish wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from astuner_gym.chat.messages import Conversation
from astuner_gym.chat.parsers import reply_parser
from astuner_gym.environment import DemonstrationSets
from astuner_gym.errors import SettingError
from astuner_rl.learning.pretrained import Pretrained
from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.learning.tiny.config import HEAD_SIZE, TinyConfig
from astuner_rl.learning.tiny.initial_weights import initialise
from astuner_rl.learning.tiny.tokenizer import train_tokenizer
from astuner_rl.learning.tiny.warm_start import Evaluation, warm_start
from astuner_rl.one_thread import one_intra_op_thread
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rendering.supervised import render_conversation

TOKENIZER_SAMPLE = 2000
"""Demonstrations from which the tokenizer is trained."""
RECIPE_SAMPLE = 200
"""Demonstrations of each set that stand for it in the recipe."""
CONTEXT = 1024
"""Positions of the model."""
LOG_FILE = "warm_start.json"
"""In the model's folder: parameters, seconds, and every evaluation."""


def build_tiny(
    config: TinyConfig, demonstrations: DemonstrationSets | None, *, say: Callable[[str], None]
) -> Path:
    """Return the folder of the tiny model, a Hugging Face one; it is built if it is not cached.

    Args:
        config: Settings.
        demonstrations: What the model imitates, of the environment that it is for.
        say: Takes lines that tell how far the building is.

    Raises:
        SettingError: There are no demonstrations.
    """
    if demonstrations is None:
        raise SettingError(
            "model=tiny must have demonstrations to imitate, and this environment offers none; "
            "set model=hf model.path=<hub id or folder>, or give the environment demonstrations"
        )
    cache = _cache_folder(config)
    folder = cache / f"tiny-{_recipe_hash(config, demonstrations)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=cache))
    try:
        say(f"building the tiny model in {folder}")
        _build(config, demonstrations, partial, say=say)
        _move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _move_into_place(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        # Another process has built the same recipe meanwhile: a full folder refuses the rename.
        if not folder.is_dir():
            raise


def _cache_folder(config: TinyConfig) -> Path:
    if config.cache is not None:
        return Path(config.cache)
    return Path(os.environ.get("ASTUNER_CACHE") or Path.home() / ".cache" / "astuner")


def _recipe_hash(config: TinyConfig, demonstrations: DemonstrationSets) -> str:
    settings = asdict(config)
    del settings["cache"]  # where the model lies does not change it
    parts = [
        json.dumps(settings, sort_keys=True),
        torch.__version__,
        transformers.__version__,
        *(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))),
        *(
            repr(conversation)
            for conversations in (demonstrations.train, demonstrations.held_out)
            for conversation in islice(conversations, RECIPE_SAMPLE)
        ),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(
    config: TinyConfig,
    demonstrations: DemonstrationSets,
    folder: Path,
    *,
    say: Callable[[str], None],
) -> None:
    start = time.monotonic()
    train = list(islice(demonstrations.train, config.demonstrations))
    held_out = list(islice(demonstrations.held_out, config.held_out))
    if not train or not held_out:
        raise SettingError(
            "model=tiny must have demonstrations to imitate and held-out ones, got "
            f"{len(train)} and {len(held_out)}; set model=hf, or give the environment some"
        )
    tokenizer = train_tokenizer(train[:TOKENIZER_SAMPLE], vocab_size=config.vocab_size)
    renderer = ChatRenderer(tokenizer, reply_parser("hermes"))
    train_examples = _examples(renderer, train)
    held_out_examples = _examples(renderer, held_out)
    model = _initial_model(config, tokenizer)
    say(
        f"{model.num_parameters():,} parameters, {len(train_examples)} demonstrations in "
        f"{time.monotonic() - start:.0f} s"
    )
    evaluations = warm_start(
        model,
        train_examples,
        held_out_examples,
        passes=config.passes,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
        say=say,
    )
    Pretrained(model, tokenizer).save(folder)
    _write_log(folder / LOG_FILE, config, model, evaluations, seconds=time.monotonic() - start)


def _examples(
    renderer: ChatRenderer, conversations: Iterable[Conversation]
) -> list[SupervisedExample]:
    return [
        SupervisedExample(token_ids=row.token_ids, mask=row.sampled_mask)
        for conversation in conversations
        for row in render_conversation(renderer, conversation)
    ]


def _initial_model(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Return a Qwen3 whose weights are functions of the seed, whatever was drawn before."""
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.hidden_size // HEAD_SIZE,
        num_key_value_heads=config.hidden_size // (2 * HEAD_SIZE),
        head_dim=HEAD_SIZE,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), one_intra_op_thread():
        torch.manual_seed(config.seed)
        model = Qwen3ForCausalLM(architecture)  # type: ignore[no-untyped-call]
        initialise(model, seed=config.seed)
    return model


def _write_log(
    path: Path,
    config: TinyConfig,
    model: Qwen3ForCausalLM,
    evaluations: Sequence[Evaluation],
    *,
    seconds: float,
) -> None:
    log = {
        "settings": asdict(config),
        "parameters": model.num_parameters(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "evaluations": [asdict(evaluation) for evaluation in evaluations],
    }
    path.write_text(json.dumps(log, indent=2) + "\n", "utf-8")
