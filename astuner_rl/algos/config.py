"""Settings of the policy-gradient algorithms.

Not frozen: Hydra's structured configs refuse overrides of frozen dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from astuner_gym.errors import SettingError
from astuner_rl.algos.call_credit import Credit
from astuner_rl.algos.divergence import KlEstimator
from astuner_rl.algos.importance import Importance
from astuner_rl.algos.weights import Aggregation
from astuner_rl.rules import require_choice, require_positive, require_range

LARGEST_LR = 1e30
"""Far above any that learns: a step along the gradient must stay within float32."""


class Ratio(StrEnum):
    """What a probability ratio is of."""

    TOKEN = "token"
    SEQUENCE = "sequence"


class Surrogate(StrEnum):
    """How the loss treats ratios that moved too far."""

    CLIP = "clip"
    CISPO = "cispo"


class Baseline(StrEnum):
    """What a reward is compared with."""

    GROUP = "group"
    """The mean of its group."""
    LEAVE_ONE_OUT = "leave_one_out"
    """The mean of the others of its group."""
    BATCH = "batch"
    """The mean of the batch, by whose standard deviation it is divided."""


class Decay(StrEnum):
    """How a learning rate falls over a run."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass(kw_only=True)
class SurrogateConfig:
    """What every algorithm with a clipped surrogate shares: loss, optimizer and cut into passes."""

    aggregation: str = Aggregation.EPISODE.value
    """What weighs the same in the loss: ``episode``, ``call``, ``token``, or ``constant``: tokens,
    by ``constant_tokens`` and not by how many there are."""
    constant_tokens: int = 256
    """Tokens that an agent-episode counts as under ``aggregation=constant``."""
    ratio: str = Ratio.TOKEN.value
    """Whose probability ratio is clipped: each ``token``'s, or that of the whole reply,
    ``sequence`` (GSPO)."""
    surrogate: str = Surrogate.CLIP.value
    """``clip`` takes the gradient from tokens that moved too far (PPO), ``cispo`` bounds their
    weight."""
    clip_low: float = 0.2
    """How far below 1 the probability ratio is not clipped."""
    clip_high: float = 0.2
    """How far above 1."""
    importance: str = Importance.NONE.value
    """What corrects for a sampler that differs from the learner: ``none``, ``truncate`` or
    ``mask``; the last two cost a forward pass."""
    importance_bound: float = 2.0
    """The largest weight of a token by that correction."""
    kl_coefficient: float = 0.0
    """Weight of the divergence from the initial policy; 0 keeps no copy of it."""
    kl_estimator: str = KlEstimator.K3.value
    """Which estimate of that divergence is differentiated: ``k2`` or ``k3``."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    lr: float = 1e-5
    """Learning rate of the policy after warm-up."""
    warmup_steps: int = 0
    """Optimizer steps over which the learning rate rises linearly."""
    decay: str = Decay.CONSTANT.value
    """How the learning rate falls to 0 over the run: ``constant`` (not at all), ``linear`` or
    ``cosine``. Optimizer steps count: where a step has nothing to learn from, it stays."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this 2-norm."""
    epochs: int = 1
    """Passes over the batch in one update."""
    minibatches: int = 1
    """Optimizer steps in one pass; the batch is split by agent-episodes, in order."""
    microbatch_tokens: int = 8192
    """Tokens, padding included, of one forward pass and of those that it goes on from, as far as
    rows are not longer; memory depends on it, the gradient does not."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again for their gradients: memory for one more forward pass."""

    def __post_init__(self) -> None:
        require_choice("algo.aggregation", self.aggregation, tuple(Aggregation))
        require_choice("algo.kl_estimator", self.kl_estimator, tuple(KlEstimator))
        require_range("algo.constant_tokens", self.constant_tokens, low=1)
        require_choice("algo.ratio", self.ratio, tuple(Ratio))
        require_choice("algo.surrogate", self.surrogate, tuple(Surrogate))
        require_choice("algo.importance", self.importance, tuple(Importance))
        require_range("algo.importance_bound", self.importance_bound, low=1.0)
        require_range("algo.clip_low", self.clip_low, low=0.0, high=1.0)
        require_range("algo.clip_high", self.clip_high, low=0.0)
        require_range("algo.kl_coefficient", self.kl_coefficient, low=0.0)
        require_range("algo.entropy_coefficient", self.entropy_coefficient, low=0.0)
        require_range("algo.lr", self.lr, low=0.0, high=LARGEST_LR)
        require_range("algo.warmup_steps", self.warmup_steps, low=0)
        require_choice("algo.decay", self.decay, tuple(Decay))
        require_range("algo.weight_decay", self.weight_decay, low=0.0)
        require_positive("algo.max_grad_norm", self.max_grad_norm)
        require_range("algo.epochs", self.epochs, low=1)
        require_range("algo.minibatches", self.minibatches, low=1)
        require_range("algo.microbatch_tokens", self.microbatch_tokens, low=1)


@dataclass(kw_only=True)
class GrpoConfig(SurrogateConfig):
    """GRPO and its relatives without a critic."""

    credit: str = Credit.EPISODE.value
    """What has an advantage of its own: an agent's whole part in an ``episode``, or each ``call``,
    by what was earned from it on, beside the calls of its group in the same place."""
    baseline: str = Baseline.GROUP.value
    """What a reward is compared with: the mean of its ``group`` (GRPO), of the others of its group
    (``leave_one_out``, RLOO), or of the ``batch``, divided by its standard deviation
    (REINFORCE++)."""
    scale_by_std: bool = True
    """Whether advantages of ``baseline=group`` are divided by the group's standard deviation."""
    overlong_tokens: int = 0
    """Replies within so many tokens of ``rollout.max_tokens`` are punished by up to 1 (DAPO), each
    by itself under ``credit=call``, an episode by the longest otherwise; 0 punishes none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("algo.credit", self.credit, tuple(Credit))
        require_choice("algo.baseline", self.baseline, tuple(Baseline))
        require_range("algo.overlong_tokens", self.overlong_tokens, low=0)

    def require_group_size(self, group_size: int) -> None:
        """Refuse a group in which no episode has a sibling: its advantage would always be 0.

        Raises:
            SettingError: ``group_size`` is below 2, and the baseline is not that of the batch.
        """
        if group_size < 2 and self.baseline != Baseline.BATCH:
            raise SettingError(
                f"group_size must be >= 2 to centre rewards, got {group_size}; "
                "set train.group_size=2 or more, or algo=ppo or reinforce_pp"
            )


@dataclass(kw_only=True)
class PpoConfig(SurrogateConfig):
    """PPO: a critic values every sampled token (arXiv:1707.06347)."""

    epochs: int = 2
    """Passes over the batch in one update; 1 to 4 are usual."""
    discount: float = 1.0
    """Per sampled token; below 1 a long reply is worth less than a short one."""
    trace_decay: float = 1.0
    """lambda of GAE: 1 trusts the rewards alone, 0 the critic alone."""
    whiten_advantages: bool = True
    """Whether advantages of a batch are brought to mean 0 and variance 1."""
    critic_lr: float | None = None
    """Learning rate of the critic after warm-up; null is three times ``lr``, as the critic has to
    learn more than the policy has."""
    value_clip: float = 0.2
    """How far a value may move in one update; ``inf`` does not clip."""
    critic_warmup_updates: int = 0
    """First updates in which the critic alone is trained, so that the policy never follows a
    critic that has seen nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("algo.discount", self.discount, low=0.0, high=1.0)
        require_range("algo.trace_decay", self.trace_decay, low=0.0, high=1.0)
        if self.critic_lr is not None:
            require_range("algo.critic_lr", self.critic_lr, low=0.0, high=LARGEST_LR)
        require_positive("algo.value_clip", self.value_clip, finite=False)
        require_range("algo.critic_warmup_updates", self.critic_warmup_updates, low=0)
