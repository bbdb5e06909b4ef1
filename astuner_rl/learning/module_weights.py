"""How the weights of a module are kept while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn


class ModuleWeights(Protocol):
    """The weights of one module: what it computes with, what an optimizer moves, what is saved."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What an optimizer moves, in the order of the module's parameters."""
        ...

    def passes(self) -> AbstractContextManager[None]:
        """Let the module compute, without gradients, inside."""
        ...

    def training_passes(self) -> AbstractContextManager[None]:
        """Let the module compute inside; after it ``parameters`` have the sums of all gradients.

        Whoever shares the module's weights enters and leaves together; nobody waits for another
        inside, so passes may differ in number and order.
        """
        ...

    def moved(self) -> None:
        """Take note that an optimizer has moved ``parameters``."""
        ...

    def computed(self) -> Mapping[str, Tensor]:
        """Return what the module computes with, by name in its ``state_dict``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, by name in the module's; the tensors are those in use."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned, or the whole tensors of it."""
        ...


class WholeWeights:
    """Weights that are the module's own parameters."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """All parameters that have a gradient."""
        return [parameter for parameter in self._module.parameters() if parameter.requires_grad]

    def passes(self) -> AbstractContextManager[None]:
        """Nothing has to be done."""
        return nullcontext()

    def training_passes(self) -> AbstractContextManager[None]:
        """Nothing has to be done: gradients add up where they arise."""
        return nullcontext()

    def moved(self) -> None:
        """Nothing has to be done."""

    def computed(self) -> Mapping[str, Tensor]:
        """Return the module's weights; see ``ModuleWeights``."""
        return self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the module's weights; see ``ModuleWeights``."""
        return self._module.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self._module.load_state_dict(state)
