"""Seconds of a whole GRPO step here and in TRL's ``GRPOTrainer``, on the same model and lengths.

A step samples, scores, takes the loss and its gradient, and moves the weights once; what a trainer
does between two steps counts too. TRL is no dependency of the project; the extra ``trl`` has the
version that this was written for::

    .venv/bin/pip install -c requirements.lock -e '.[trl]'

The same on both sides: a Qwen3 of random weights in float32 on the CPU, with one process and one or
two threads, whichever is faster for that side; prompts, number of episodes, and every length, since
no token that is drawn can end a reply; a word-level tokenizer, by which prompts come in as text and
replies are decoded; temperature 1, AdamW, learning rate, gradient clipping, clip range; one
optimizer step on fresh samples, no reference model, no dropout, no gradient checkpointing; nothing
is logged or saved. Rewards are 0 and 1 in turn, so that every episode has a gradient, and every
sampled token weighs the same. TRL's advantages are up to 3 % smaller than ours, since it divides by
the standard deviation of a sample and not of a population; gradients are equal but for that.

*TRL*: batches are generated as a whole, by TRL's own ``_generate_single_turn``. For a single call
the trainer does all by itself. Episodes of several calls need its ``rollout_func``, which generates
call after call for all conversations at once, as TRL's own tool loop does: a call that extends the
one before is part of the same row, its observations masked by ``env_mask``; where the history was
rewritten, each call is a row. Rows are trained in batches of ``per_device_train_batch_size``, whose
gradients are accumulated. As its batches are aligned with its steps, TRL makes no second pass for
the log-probs of the old policy.

TRL's modes are searched one choice after another, each whole step timed, and the fastest is what
the bars compare with: rows of a training batch; threads; how it generates (``generate``, the same
with a static cache, continuous batching with shared prompts and a cache and batches of a size for a
CPU); ``torch_compile``. One way of generating is not TRL's own, though its ``rollout_func`` leaves
room for it: a function that computes each prompt once for a group and keeps keys and values from
call to call. It is no mode of TRL's, so the bars do not count it; where it is faster, it is
measured in turns as well and its ratio printed beside theirs. vLLM was not tried: it is not among
what this project can install.

*Ours*: default settings. Every conversation is a coroutine that asks ``TransformersSampler``; the
calls become timelines, and ``GrpoLearner`` trains on their forest; then the weights are loaded into
the sampler. Neither side runs an agent framework, a chat template or a judge.

A full run wants a machine that does nothing else: threads of one operation wait for each other by
spinning, which beside another program makes a step last many times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset  # type: ignore[import-untyped]
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    DynamicCache,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen3Config,
    Qwen3ForCausalLM,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer

from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_rl.algos.config import GrpoConfig
from astuner_rl.learning.grpo import GrpoLearner
from astuner_rl.samplers.transformers import TransformersSampler, TransformersSamplerConfig
from astuner_rl.tracking.timelines import build_timelines
from astuner_rl.types import (
    AgentEpisode,
    CallRecord,
    DrawKey,
    EpisodeKey,
    SamplingParams,
)
from benchmarks.report import Bar, report

VOCABULARY = 2048
PAD = 0
END = VOCABULARY
"""Ends a reply, but has no logit and is never drawn."""
LR = 1e-5
PAGE = 64
"""Tokens of a page in TRL's continuous batching; by default its pages hold 256, and its cache takes
half of the memory, which a CPU has to fill with zeros each time."""

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """A row as TRL trains it."""

    prompt: Tokens
    completion: Tokens
    sampled: tuple[int, ...]
    """1 on tokens of ``completion`` that were sampled, 0 on observations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The episodes of a step, and all their lengths in tokens."""

    tasks: int
    group_size: int
    agents: int = 1
    """In an episode; each has its own conversation."""
    calls: int = 1
    """Of each agent."""
    system: int = 0
    """What all prompts begin with."""
    task: int
    """What the prompts of a group go on with."""
    role: int = 0
    """What an agent's prompts go on with, the same in all episodes."""
    reply: int
    thought: int = 0
    """First tokens of each reply that later prompts leave out."""
    observation: int = 0
    """What follows a reply in the next prompt."""

    @property
    def conversations(self) -> int:
        """Agents in all episodes."""
        return self.tasks * self.group_size * self.agents

    @property
    def sampled(self) -> int:
        """Tokens sampled in a step, all of which are trained."""
        return self.conversations * self.calls * self.reply

    @property
    def extending(self) -> bool:
        """Whether a prompt begins with the whole call before."""
        return self.thought == 0

    @property
    def rows_per_episode(self) -> int:
        """Rows in which TRL trains an episode."""
        return self.agents * (1 if self.extending else self.calls)

    @property
    def rows_per_task(self) -> int:
        """Rows with which TRL compares a row's reward."""
        return self.group_size * self.rows_per_episode

    @property
    def rows(self) -> int:
        """Rows that TRL trains in a step."""
        return self.tasks * self.rows_per_task

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and reply, by call."""
        first = self.system + self.task + self.role
        kept = self.reply - self.thought + self.observation
        return [first + call * kept + self.reply for call in range(self.calls)]

    def tasks_of(self, step: int) -> list[str]:
        """The tasks of a step, as text."""
        return [
            " ".join(map(str, _text(self.task, "task", step, task))) for task in range(self.tasks)
        ]

    def start(self, tasks: Sequence[Sequence[int]]) -> list[Conversation]:
        """The conversations about tokenized tasks, by task, sample and agent."""
        system = _text(self.system, "system")
        return [
            Conversation(
                prompt=system + tuple(tasks[task]) + _text(self.role, "role", agent),
                observations=[
                    _text(self.observation, "observation", task, sample, agent, call)
                    for call in range(self.calls - 1)
                ],
                thought=self.thought,
            )
            for task, sample, agent in self.places()
        ]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Task, sample and agent of each conversation."""
        return itertools.product(range(self.tasks), range(self.group_size), range(self.agents))

    def reward_of(self, row: int) -> float:
        """Reward of the episode to which one of TRL's rows belongs."""
        return reward(row // self.rows_per_episode % self.group_size)


def reward(sample: int) -> float:
    """Every second episode of a group succeeds."""
    return float(sample % 2)


def _text(length: int, *name: str | int) -> Tokens:
    random = Random(str(name))
    return tuple(random.randrange(1, VOCABULARY) for _ in range(length))


class Conversation:
    """What one agent is told in one episode, whatever it answers."""

    def __init__(self, *, prompt: Tokens, observations: Sequence[Tokens], thought: int) -> None:
        self.prompt = prompt
        """Of the next call."""
        self.calls: list[tuple[Tokens, Tokens]] = []
        """Prompt and reply of each call so far."""
        self._observations = observations
        self._thought = thought

    def answer(self, reply: Tokens) -> None:
        """Take the reply to ``prompt``, and go on to the next one if there is another call."""
        if len(self.calls) < len(self._observations):
            following = reply[self._thought :] + self._observations[len(self.calls)]
        else:
            following = ()
        self.calls.append((self.prompt, reply))
        self.prompt += following

    def as_one_row(self) -> TrainingRow:
        """All calls, each of which extends the one before."""
        first, _ = self.calls[0]
        prompt, reply = self.calls[-1]
        completion = (prompt + reply)[len(first) :]
        sampled = [0] * len(completion)
        for prompt, reply in self.calls:
            start = len(prompt) - len(first)
            sampled[start : start + len(reply)] = [1] * len(reply)
        return TrainingRow(prompt=first, completion=completion, sampled=tuple(sampled))

    def as_row_by_call(self) -> list[TrainingRow]:
        """Each call by itself."""
        return [
            TrainingRow(prompt=prompt, completion=reply, sampled=(1,) * len(reply))
            for prompt, reply in self.calls
        ]


def make_model() -> Qwen3ForCausalLM:
    """A Qwen3 of the tiny model's size, with random weights."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(  # type: ignore[no-untyped-call]
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=PAD,
        )
    )
    assert model.dtype == torch.float32
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the numbers of their tokens."""
    words = {str(token): token for token in range(VOCABULARY) if token != PAD}
    words |= {"<pad>": PAD, "<end>": END}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )


@contextmanager
def intra_op_threads(number: int) -> Iterator[None]:
    """Set the number of this thread, and restore it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Generation(StrEnum):
    """How TRL's side generates."""

    GENERATE = "generate"
    STATIC = "generate with a static cache"
    CONTINUOUS = "continuous batching"
    KEPT = "rollout_func that shares and keeps a cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrlMode:
    """Settings of TRL's side."""

    rows: int
    """``per_device_train_batch_size``."""
    threads: int = 2
    generation: Generation = Generation.GENERATE
    compiled: bool = False

    def __str__(self) -> str:
        compiled = ", torch_compile" * self.compiled
        return f"rows {self.rows}, threads {self.threads}, {self.generation}{compiled}"


Change = Mapping[str, Any]
SEARCH: tuple[tuple[Change, ...], ...] = (
    tuple({"rows": rows} for rows in (1, 2, 8, 32)),
    ({"threads": 1},),
    ({"generation": Generation.STATIC}, {"generation": Generation.CONTINUOUS}),
    ({"compiled": True},),
    ({"generation": Generation.KEPT},),
)
"""What is tried: each time all of one kind on the fastest so far."""
QUICK_SEARCH: tuple[tuple[Change, ...], ...] = (
    ({"rows": 4},),
    ({"generation": Generation.KEPT},),
)


class KeptCache:
    """Generates from keys and values that are computed once.

    All prompts of a call have the same length, as have all replies.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._cache: DynamicCache | None = None

    @torch.no_grad()
    def generate(self, trainer: GRPOTrainer, prompts: Sequence[Tokens]) -> list[list[int]]:
        """Return a reply for each prompt."""
        model: Any = trainer.model
        if self._cache is None:
            self._cache = DynamicCache()
            different = list(dict.fromkeys(prompts))
            place = {prompt: index for index, prompt in enumerate(different)}
            model(
                input_ids=torch.tensor(different)[:, :-1],
                past_key_values=self._cache,
                logits_to_keep=1,
            )
            self._cache.batch_select_indices(torch.tensor([place[prompt] for prompt in prompts]))
        elif not self._load.extending:
            # Of the last call its prompt alone is left, without the tokens it sampled and fed.
            self._cache.crop(1 - self._load.reply)
        input_ids = torch.tensor(prompts)
        output: torch.Tensor = model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            past_key_values=self._cache,
            generation_config=trainer.generation_config,
        )
        replies: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
        return replies


class TimedTrainer(GRPOTrainer):
    """TRL's trainer, which also tells what sampling takes and how many tokens are trained."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampling_s: list[float] = []
        """By step."""
        self.trained: list[int] = []
        """By step."""
        self.fed: list[int] = []
        """Tokens in all rows, by step."""

    def _generate(self, prompts: list[str]) -> Any:
        start = time.perf_counter()
        output = super()._generate(prompts)
        self.sampling_s.append(time.perf_counter() - start)
        prompts_ids, completions, mask, *_ = output
        self.fed.append(sum(map(len, (*prompts_ids, *completions))))
        self.trained.append(sum(map(sum, mask)) if mask is not None else sum(map(len, completions)))
        return output


class Alternation(TrainerCallback):
    """Takes the time of each step of a trainer, and lets the other side take one after it."""

    def __init__(self, between: Callable[[], None]) -> None:
        self.seconds: list[float] = []
        self._between = between
        self._resumed = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._resumed = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock while the other side is at work."""
        self.seconds.append(time.perf_counter() - self._resumed)
        self._between()
        self._resumed = time.perf_counter()


def as_rollout(load: Load, conversations: Sequence[Conversation]) -> dict[str, Any]:
    """Return finished conversations as TRL takes them from a ``rollout_func``."""
    rows: list[TrainingRow] = []
    for conversation in conversations:
        if load.extending:
            rows.append(conversation.as_one_row())
        else:
            rows += conversation.as_row_by_call()
    return {
        "prompt_ids": [list(row.prompt) for row in rows],
        "completion_ids": [list(row.completion) for row in rows],
        "env_mask": [list(row.sampled) for row in rows],
        "logprobs": None,  # TRL uses them to correct for vLLM alone
    }


def rollout_func(load: Load, mode: TrlMode) -> Callable[[list[str], Any], dict[str, Any]]:
    """Return what generates all calls of a step, each for all conversations at once."""
    tokenizer = make_tokenizer()

    def roll_out(prompts: list[str], trainer: Any) -> dict[str, Any]:
        # TRL hands over the prompt of a task once for each of its rows.
        tasks = tokenizer(text=prompts[:: load.rows_per_task])["input_ids"]
        conversations = load.start(tasks)
        kept = KeptCache(load)
        for _ in range(load.calls):
            asked = [conversation.prompt for conversation in conversations]
            if mode.generation is Generation.KEPT:
                replies = kept.generate(trainer, asked)
            else:
                replies, _ = trainer._generate_single_turn(
                    [list(prompt) for prompt in asked], None, {}, len(asked)
                )
            for conversation, reply in zip(conversations, replies, strict=True):
                conversation.answer(tuple(reply))
        return as_rollout(load, conversations)

    return roll_out


def make_trainer(load: Load, mode: TrlMode, *, steps: int, clock: Alternation) -> TimedTrainer:
    """TRL's trainer, ready for ``steps`` steps."""
    # An earlier trainer with torch_compile leaves it there for all that come after.
    os.environ.pop("ACCELERATE_DYNAMO_BACKEND", None)
    # Else torch would give up on a function after so many models and shapes.
    torch.compiler.reset()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    blocks = load.conversations * -(-load.lengths[-1] // PAGE)
    config = GRPOConfig(
        output_dir=tempfile.gettempdir(),
        max_steps=steps,
        per_device_train_batch_size=mode.rows,
        gradient_accumulation_steps=load.rows // mode.rows,
        num_generations=load.rows_per_task,
        max_completion_length=load.reply,
        loss_type="grpo",
        beta=0.0,
        epsilon=0.2,
        temperature=1.0,
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        cache_implementation="static" if mode.generation is Generation.STATIC else None,
        use_transformers_continuous_batching=mode.generation is Generation.CONTINUOUS,
        transformers_continuous_batching_config={
            "page_size": PAGE,
            "num_blocks": blocks,
            "max_batch_tokens": 1024,
        },
        torch_compile=mode.compiled,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    alone = load.calls == load.agents == 1 and mode.generation is not Generation.KEPT

    def rewards(prompts: list[str], **_: Any) -> list[float]:
        return [load.reward_of(row) for row in range(len(prompts))]

    trainer = TimedTrainer(
        make_model(),
        rewards,
        config,
        Dataset.from_dict(
            {"prompt": [task for step in range(steps) for task in load.tasks_of(step)]}
        ),
        processing_class=make_tokenizer(),
        callbacks=[clock],
        rollout_func=None if alone else rollout_func(load, mode),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@dataclass(frozen=True, slots=True)
class OurSetting:
    """Settings of our side; all others are the defaults."""

    learner_threads: int
    """Of one operation."""
    sampler_threads: int
    """Each with a batch of its own."""

    def __str__(self) -> str:
        return f"threads {self.learner_threads} to learn, {self.sampler_threads} to sample"


OUR_SETTINGS = (OurSetting(2, 2), OurSetting(1, 2), OurSetting(1, 1))


class Ours:
    """Our side of a load."""

    def __init__(self, load: Load, setting: OurSetting) -> None:
        self.seconds: list[float] = []
        """By step, as all below."""
        self.sampling_s: list[float] = []
        self.trained: list[int] = []
        self.forward: list[int] = []
        """Tokens that were fed to the policy that learns."""
        self._load = load
        self._threads = setting.learner_threads
        self._tokenizer = make_tokenizer()
        self._params = SamplingParams(temperature=1.0, max_tokens=load.reply)
        model = make_model()
        self._sampler = TransformersSampler(
            model,
            stop_token_ids=[],
            pad_token_id=PAD,
            config=TransformersSamplerConfig(
                context_length=load.lengths[-1], threads=setting.sampler_threads
            ),
        )
        self._learner = GrpoLearner(model, GrpoConfig(lr=LR))

    def step(self) -> None:
        """Take a whole step."""
        with intra_op_threads(self._threads):
            start = time.perf_counter()
            asyncio.run(self._step())
            self.seconds.append(time.perf_counter() - start)

    def close(self) -> None:
        """End the sampler's threads."""
        asyncio.run(self._sampler.close())

    async def _step(self) -> None:
        start = time.perf_counter()
        step = len(self.seconds)
        tasks = self._tokenizer(text=self._load.tasks_of(step))["input_ids"]
        conversations = zip(self._load.places(), self._load.start(tasks), strict=True)
        episodes = await asyncio.gather(
            *(
                self._converse(EpisodeKey("train", step, task, sample), f"agent-{agent}", each)
                for (task, sample, agent), each in conversations
            )
        )
        self.sampling_s.append(time.perf_counter() - start)
        update = self._learner.update(episodes)
        await self._sampler.load_weights(self._learner.weights(), version=update.updates)
        self.trained.append(int(update.metrics["tokens/trained"]))
        self.forward.append(int(update.metrics["tokens/forward"]))

    async def _converse(
        self, key: EpisodeKey, agent: str, conversation: Conversation
    ) -> AgentEpisode:
        records: list[CallRecord] = []
        for index in range(self._load.calls):
            prompt = conversation.prompt
            completion = await self._sampler.generate(
                prompt, params=self._params, key=DrawKey(0, key, agent, index)
            )
            text = self._tokenizer.decode(list(completion.token_ids))
            assert isinstance(text, str)
            records.append(
                CallRecord(
                    call=ChatCall(agent=agent, role=agent, index=index, messages=()),
                    reply=ChatReply(text=text),
                    prompt_ids=prompt,
                    completion=completion,
                    extends=index - 1 if index > 0 and self._load.extending else None,
                    params=self._params,
                )
            )
            conversation.answer(completion.token_ids)
        return AgentEpisode(
            episode=key,
            agent=agent,
            role=agent,
            reward=reward(key.sample),
            truncated=False,
            timelines=build_timelines(records, trained=range(len(records))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Both sides in turns; seconds are medians."""

    trl_mode: str
    trl_step_s: float
    trl_sampling_s: float
    trl_forward_tokens: int
    """Fed to the policy that learns."""
    our_setting: str
    our_step_s: float
    our_sampling_s: float
    our_forward_tokens: int
    ratio: float
    """TRL's seconds over ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both sides on one load."""

    load: dict[str, int]
    sampled_tokens: int
    """Of each side, all trained."""
    trl_rows: int
    trl_tried_s: dict[str, float]
    """One whole step in each mode."""
    our_tried_s: dict[str, float]
    """The same of our settings."""
    fastest: Turns
    """With the fastest mode of all."""
    own: Turns
    """With the fastest in which TRL generates by itself."""


def trl_trial(load: Load, mode: TrlMode) -> float:
    """Seconds of the second step in a mode."""
    clock = Alternation(lambda: None)
    with intra_op_threads(mode.threads):
        make_trainer(load, mode, steps=2, clock=clock).train()
    return clock.seconds[-1]


def our_trial(load: Load, setting: OurSetting) -> float:
    """Seconds of the second step in a setting."""
    ours = Ours(load, setting)
    ours.step()
    ours.step()
    ours.close()
    return ours.seconds[-1]


def search_modes(load: Load, search: Sequence[Sequence[Change]]) -> dict[TrlMode, float]:
    """Try TRL's modes, each kind of choice on the fastest so far."""
    tried: dict[TrlMode, float] = {}
    for changes in search:
        base = min(tried, key=lambda mode: tried[mode]) if tried else TrlMode(rows=1)
        for change in changes:
            mode = dataclasses.replace(base, **change)
            tried[mode] = trl_trial(load, mode)
            print(f"  TRL, {mode!s:77}{tried[mode]:8.2f} s", flush=True)
    return tried


def take_turns(load: Load, mode: TrlMode, setting: OurSetting, *, repeats: int) -> Turns:
    """Measure both sides step by step, but for the first step of each."""
    ours = Ours(load, setting)
    clock = Alternation(ours.step)
    with intra_op_threads(mode.threads):
        trainer = make_trainer(load, mode, steps=1 + repeats, clock=clock)
        trainer.train()
    ours.close()
    for trained in (*trainer.trained, *ours.trained):
        assert trained == load.sampled, f"{trained} tokens were trained, not {load.sampled}"
    trl_step_s = statistics.median(clock.seconds[1:])
    our_step_s = statistics.median(ours.seconds[1:])
    turns = Turns(
        trl_mode=str(mode),
        trl_step_s=trl_step_s,
        trl_sampling_s=statistics.median(trainer.sampling_s[1:]),
        trl_forward_tokens=trainer.fed[-1],
        our_setting=str(setting),
        our_step_s=our_step_s,
        our_sampling_s=statistics.median(ours.sampling_s[1:]),
        our_forward_tokens=ours.forward[-1],
        ratio=trl_step_s / our_step_s,
    )
    print_turns(turns)
    return turns


def print_turns(turns: Turns) -> None:
    """Tell how long each side took in turns, and for what."""
    print(f"  in turns, medians{'step s':>22}{'sample s':>10}{'learn s':>10}{'fed':>10}")
    for side, step_s, sampling_s, fed in (
        ("TRL", turns.trl_step_s, turns.trl_sampling_s, turns.trl_forward_tokens),
        ("ours", turns.our_step_s, turns.our_sampling_s, turns.our_forward_tokens),
    ):
        print(f"    {side:15}{step_s:20.2f}{sampling_s:10.2f}{step_s - sampling_s:10.2f}{fed:10}")
    print(f"    {'ratio':15}{turns.ratio:20.2f}   (TRL: {turns.trl_mode})", flush=True)


def compare(name: str, load: Load, *, repeats: int, quick: bool) -> Comparison:
    """Find the fastest of each side, then measure both in turns."""
    print(
        f"\n{name}: {load.tasks} tasks x {load.group_size} episodes x {load.agents} agents x "
        f"{load.calls} calls;\n  prompts and replies together {load.lengths} tokens by call, of "
        f"which {load.reply} are sampled; {load.rows} rows in TRL"
    )
    modes = search_modes(load, QUICK_SEARCH if quick else SEARCH)
    settings: dict[OurSetting, float] = {}
    for setting in OUR_SETTINGS[:1] if quick else OUR_SETTINGS:
        settings[setting] = our_trial(load, setting)
        print(f"  ours, {setting!s:76}{settings[setting]:8.2f} s", flush=True)
    setting = min(settings, key=lambda each: settings[each])
    by_speed = sorted(modes, key=lambda each: modes[each])
    fastest = take_turns(load, by_speed[0], setting, repeats=repeats)
    own_mode = next(each for each in by_speed if each.generation is not Generation.KEPT)
    if own_mode == by_speed[0]:
        own = fastest
    else:
        own = take_turns(load, own_mode, setting, repeats=repeats)
    return Comparison(
        load=dataclasses.asdict(load),
        sampled_tokens=load.sampled,
        trl_rows=load.rows,
        trl_tried_s={str(each): taken for each, taken in modes.items()},
        our_tried_s={str(each): taken for each, taken in settings.items()},
        fastest=fastest,
        own=own,
    )


LOADS = {
    "single_turn_shared_prompt": Load(tasks=4, group_size=16, task=512, reply=64),
    "single_turn_short_prompt": Load(tasks=4, group_size=16, task=64, reply=64),
    "six_call_tool_episodes": Load(
        tasks=4, group_size=16, calls=6, task=512, reply=32, observation=64
    ),
    "six_calls_short_prompt": Load(
        tasks=4, group_size=16, calls=6, task=64, reply=32, observation=64
    ),
    "several_agents_or_rewritten_history": Load(
        tasks=2,
        group_size=8,
        agents=4,
        calls=3,
        system=384,
        task=64,
        role=64,
        reply=48,
        thought=32,
        observation=48,
    ),
}
"""Those with a short prompt have no bar: they show where the advantage ends."""
GOALS = {
    "single_turn_shared_prompt": 2.0,
    "six_call_tool_episodes": 2.0,
    "several_agents_or_rewritten_history": 4.0,
}


def smaller(load: Load) -> Load:
    """A load of the same kind for ``--quick``."""
    return dataclasses.replace(load, tasks=1, group_size=4, system=load.system // 4)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small version, under a minute")
    quick = parser.parse_args().quick
    # They warn that the token that ends a reply has no logit, which is what it is for.
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    print(
        f"TRL {trl.__version__}, transformers {transformers.__version__}, torch "
        f"{torch.__version__}, float32, {os.cpu_count()} cores; seconds of one whole step"
    )
    comparisons = {
        name: compare(
            name, smaller(load) if quick else load, repeats=1 if quick else 5, quick=quick
        )
        for name, load in LOADS.items()
        if name in GOALS or not quick
    }
    report(
        "vs_trl",
        figures={
            "trl": trl.__version__,
            **{name: dataclasses.asdict(each) for name, each in comparisons.items()},
        },
        bars={name: Bar(comparisons[name].own.ratio, ">=", goal) for name, goal in GOALS.items()},
        keep=not quick,
    )


if __name__ == "__main__":
    main()
