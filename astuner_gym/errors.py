"""Failures of environments, named by the boundary that they crossed."""

from __future__ import annotations


class AstunerError(Exception):
    """Base of every failure that ASTuner reports by its own name."""


class UnusableInputError(AstunerError, ValueError):
    """Settings, files or data with which no run can start (exit status 2)."""


class TaskDataError(UnusableInputError):
    """Task data is absent or malformed; the message names file, line and field."""


class SettingError(UnusableInputError):
    """A setting breaks a rule; the message gives the rule, the value and the remedy."""


class NotSetUpError(SettingError):
    """What an environment needs besides its package is absent; the message says how to get it."""


class WorkflowError(AstunerError):
    """The user's workflow raised, or returned something that is no result."""


class ServiceError(WorkflowError):
    """A service of the environment failed, not the agents: the episode says nothing about them."""


class ServiceStartError(ServiceError):
    """A service did not start, or was not ready in time; the message names its log."""


class ServiceLostError(ServiceError):
    """A service ended or stopped answering while an episode held it; the message names its log."""


class JudgeError(AstunerError):
    """A judge raised, or returned something that is no score."""


class BrokenJudgeError(JudgeError):
    """A judge can score nothing any more, whatever it is given."""


class EpisodeLimitError(AstunerError):
    """A call exceeds a limit of its episode, such as the number of calls or the model's context.

    The episode ends there, truncated and without a result, unless its workflow catches this and
    calls :meth:`astuner_gym.workflow.Models.accept_limit`.
    """


class EpisodeClosedError(AstunerError):
    """A workflow called its model after its episode had ended."""
