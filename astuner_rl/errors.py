"""Failures of training, named by the boundary that they crossed.

Unusable input, which the user must mend before a run can start (exit status 2), is
``astuner_gym.errors.UnusableInputError``; these here end or shorten a run that had started.
"""

from __future__ import annotations

from astuner_gym.errors import AstunerError, EpisodeLimitError


class SamplerError(AstunerError):
    """A sampler could not answer."""


class BrokenSamplerError(SamplerError):
    """A sampler cannot answer anybody any more; a new one can."""


class NonFiniteLogitsError(SamplerError):
    """The weights give no numbers to sample from, whatever samples them."""


class ContextOverflowError(SamplerError, EpisodeLimitError):
    """A prompt leaves no room for a reply; the message gives both lengths and the setting."""


class CallBudgetError(EpisodeLimitError):
    """An episode asked for more calls than it may make: it is truncated, not failed."""


class RenderingError(AstunerError):
    """A chat template could not render messages."""


class NonFiniteLossError(AstunerError):
    """Loss or gradient is NaN or infinite; the weights were left as they were."""


class CheckpointError(AstunerError):
    """A checkpoint is absent, torn, or of another run."""


class ReplayError(AstunerError):
    """A run's weights do not follow from what it recorded."""


class LostProcessError(AstunerError):
    """A process that the run needs has died and cannot be started anew."""


class RunAbortedError(AstunerError):
    """A run cannot go on; the message says why and what was kept."""
