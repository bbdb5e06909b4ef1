"""LoRA (Hu et al. 2021, arXiv:2106.09685): low-rank updates of linear layers, in place of all.

A layer with weights ``W`` [out, in] gets an *adapter*, ``B`` [out, rank] and ``A`` [rank, in], and
computes with ``W + (alpha / rank) B A``. Adapters alone are trained, so gradients, moments and what
a resume needs are theirs. A sampler gets the adapters and adds them up itself, to the very bits of
the *merged* weights here. ``peft`` makes the layers; it comes with the extra ``lora``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from astuner_gym.errors import SettingError
from astuner_rl.learning.master_weights import compute_in
from astuner_rl.learning.module_weights import ModuleWeights
from astuner_rl.samplers.adapters import A, B, merge

ADAPTER = "default"
"""What peft calls the only adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Which adapters a model has."""

    rank: int
    alpha: int
    """Adapters count ``alpha / rank``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterWeights:
    """Adapters apart from what they adapt, for a sampler that applies them itself."""

    config: Mapping[str, Any]
    """As in peft's ``adapter_config.json``."""
    tensors: Mapping[str, Tensor]
    """By the names of peft's ``adapter_model.safetensors``."""


def save_adapters(adapters: AdapterWeights, folder: Path) -> None:
    """Write a folder, which must exist, that ``peft`` loads."""
    config = json.dumps(dict(adapters.config), indent=2)
    (folder / "adapter_config.json").write_text(config + "\n", encoding="utf-8")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in adapters.tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """Return a copy of the model with adapters at all its linear layers but the output head.

    Adapters alone have a gradient there. ``B`` is 0 at the start, so the copy computes what the
    model does.

    Raises:
        SettingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise SettingError(
            f"LoRA needs the package peft, got {error}; install it by: pip install '.[lora]' in "
            "the checkout"
        ) from error
    adapted = copy.deepcopy(model).requires_grad_(False)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules="all-linear")
    # Drawn from a seed of its own: torch's global state names no run.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inject_adapter_in_model(config, adapted, adapter_name=ADAPTER)
    return adapted


class LoraWeights:
    """Weights of a module with adapters, in one process.

    Args:
        module: From ``with_adapters``.
        kept: The weights of the module, all of them.
        merged: What the module was copied from; holds the merged weights from now on, so that it
            computes what the module does.
        lora: Which adapters.
    """

    def __init__(
        self, module: nn.Module, kept: ModuleWeights, *, merged: nn.Module, lora: Lora
    ) -> None:
        self._module = module
        self._kept = kept
        self._merged = merged
        self._lora = lora
        if (dtype := next(module.parameters()).dtype) != next(merged.parameters()).dtype:
            compute_in(merged, dtype)

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Those of the adapters."""
        return self._kept.parameters

    def passes(self) -> AbstractContextManager[None]:
        """See ``ModuleWeights``."""
        return self._kept.passes()

    def training_passes(self) -> AbstractContextManager[None]:
        """See ``ModuleWeights``."""
        return self._kept.training_passes()

    @torch.no_grad()
    def moved(self) -> None:
        """Merge the adapters anew."""
        self._kept.moved()
        for name, base, a, b in self._adapted():
            self._merged.get_parameter(f"{name}.weight").copy_(merge(base, a, b))

    def _adapted(self) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Yield each layer with an adapter: its name, what is adapted, ``A``, and ``B`` scaled."""
        from peft.tuners.lora import Linear

        for name, layer in self._module.named_modules():
            if isinstance(layer, Linear):
                base = layer.get_base_layer().weight
                a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
                assert isinstance(base, Tensor)
                assert isinstance(a, Tensor)
                assert isinstance(b, Tensor)
                yield name, base.detach(), a.detach(), layer.scaling[ADAPTER] * b.detach()

    def computed(self) -> Mapping[str, Tensor]:
        """Return the merged weights, by the names that they have without adapters."""
        weights: Mapping[str, Tensor] = self._merged.state_dict()
        return weights

    def handover(self, *, whole: bool) -> Mapping[str, Tensor]:
        """Return the adapters as samplers take them, and with ``whole`` what they adapt, too."""
        weights = dict(self.computed()) if whole else {}
        for name, base, a, b in self._adapted():
            if whole:
                weights[f"{name}.weight"] = base
            weights |= {name + A: a, name + B: b}
        return weights

    def adapters(self) -> AdapterWeights:
        """Return the adapters apart; not copies."""
        state = self._kept.computed().items()
        return AdapterWeights(
            config={
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": self._lora.rank,
                "lora_alpha": self._lora.alpha,
                "target_modules": sorted({_layer(name) for name, _ in state if _is_adapter(name)}),
            },
            tensors={
                "base_model.model." + name.replace(f".{ADAPTER}.", "."): tensor
                for name, tensor in state
                if _is_adapter(name)
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the adapters; what they adapt never changes."""
        state = self._kept.state_dict()
        return {name: tensor for name, tensor in state.items() if _is_adapter(name)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned, beside the same weights."""
        self._kept.load_state_dict({**self._kept.state_dict(), **state})
        self.moved()


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _layer(name: str) -> str:
    """Return ``q_proj`` of ``….q_proj.lora_A.default.weight``."""
    return name.split(".")[-4]
