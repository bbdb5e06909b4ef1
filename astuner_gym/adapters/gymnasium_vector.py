"""Many workflows on one event loop as a ``gymnasium.vector.VectorEnv`` of text."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from astuner_gym.adapters.gymnasium import SingleAgentView
from astuner_gym.chat.messages import Responder
from astuner_gym.chat.parsers import ReplyParser
from astuner_gym.env import Start, Step
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError, WorkflowError
from astuner_gym.spaces import UnicodeText
from astuner_gym.task import TaskSource
from astuner_gym.vector import VectorWorkflowEnv

Texts: TypeAlias = tuple[str, ...]
OneStep: TypeAlias = tuple[str, float, bool, bool, dict[str, Any]]


class GymnasiumVectorEnv(VectorEnv[Texts, Sequence[str], NDArray[Any]]):
    """Steps the one agent who acts in each of many episodes; see :class:`GymnasiumEnv`.

    Observations are a tuple of texts, actions a sequence of them. Ended episodes start again as
    ``metadata["autoreset_mode"]`` says and Gymnasium defines it: in the step after (the action for
    them is ignored), in the same step (``final_obs`` and ``final_info`` in the infos show the end),
    or when ``reset`` names them in ``options["reset_mask"]``.

    An episode that fails is truncated with reward 0.0 and its info holds ``error``; the others go
    on. One that failed before its first call has the observation ``""`` and ends with the next
    step, whose action for it is ignored. Leave failed episodes out of training and of averages.
    """

    def __init__(
        self,
        environment: Environment,
        num_envs: int,
        *,
        agent: str | None = None,
        opponent: Responder | None = None,
        tasks: TaskSource | None = None,
        parser: ReplyParser | None = None,
        deadline_s: float = 300.0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        """Make the environment.

        Args:
            environment: Workflow, judge and tasks.
            num_envs: How many episodes there are at once.
            agent: The agent who is stepped; None where the workflow has one agent at a time.
            opponent: Answers for all agents but ``agent``.
            tasks: Tasks to draw from; the environment's training tasks if None.
            parser: Reads actions; the Hermes format if None.
            deadline_s: Seconds after which episodes that have not come to rest fail.
            autoreset_mode: When an ended episode starts again, as the mode or by its value.

        Raises:
            SettingError: One of ``agent`` and ``opponent`` is given without the other, or
                ``num_envs`` is below 1.
        """
        self.closed = True  # Deleting what could not be made must not close it.
        self._env = VectorWorkflowEnv(
            environment,
            num_envs,
            tasks=tasks,
            controlled=None if agent is None else (agent,),
            opponent=opponent,
            parser=parser,
            deadline_s=deadline_s,
        )
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        limit = self._env.action_space("").max_length
        self.single_action_space = UnicodeText(limit)
        self.single_observation_space = UnicodeText(limit)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._views = [SingleAgentView() for _ in range(num_envs)]
        self._texts = [""] * num_envs
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self.closed = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Texts, dict[str, Any]]:
        """Start episodes; see :meth:`VectorWorkflowEnv.reset`.

        Args:
            seed: One for all, counted up by the episode's index, or one for each.
            options: ``{"task": i}`` chooses the task; ``{"reset_mask": mask}``, a boolean array
                with an entry for each episode, the episodes to start, all of them without it.

        Raises:
            SettingError: An option is unknown, out of range, or no mask of any episode.
            WorkflowError: A workflow blocks the event loop.
        """
        super().reset(seed=operator.index(seed) if isinstance(seed, SupportsIndex) else None)
        choices = dict(options or {})
        indices = self._masked(choices.pop("reset_mask", None))
        infos: dict[str, Any] = {}
        self._start(indices, seed=seed, options=choices, infos=infos)
        return tuple(self._texts), infos

    def step(
        self, actions: Sequence[str]
    ) -> tuple[Texts, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Answer the agents' calls; see :meth:`VectorWorkflowEnv.step`.

        Returns:
            Texts, one an episode, rewards [num_envs] float64, terminations and truncations
            [num_envs] bool, and infos with a mask ``_<name>`` for each name.

        Raises:
            InvalidAction: There is not one action an episode, or one is no text of the action
                space; other actions may follow.
            ResetNeeded: No episode was started, or an ended one waits for a reset in mode DISABLED.
            WorkflowError: A workflow blocks the event loop, and all episodes are lost.
        """
        if len(actions) != self.num_envs:
            raise InvalidAction(
                f"each of the {self.num_envs} episodes needs an action, got {len(actions)}"
            )
        waiting = [int(index) for index in np.flatnonzero(self._ended)]
        if waiting and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"episodes {waiting} have ended, and in mode DISABLED they wait for a reset; name "
                "them in options['reset_mask']"
            )
        steps = self._env.step(
            [
                dict.fromkeys(agents, action)
                for agents, action in zip(self._env.agents, actions, strict=True)
            ]
        )
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        terminations = np.zeros(self.num_envs, dtype=np.bool_)
        truncations = np.zeros(self.num_envs, dtype=np.bool_)
        infos: dict[str, Any] = {}
        final = {}
        for index, step in enumerate(steps):
            if index in waiting:
                continue
            text, rewards[index], terminations[index], truncations[index], info = self._seen(
                index, step
            )
            self._texts[index] = text
            if self.autoreset_mode is AutoresetMode.SAME_STEP and (
                terminations[index] or truncations[index]
            ):
                final[index] = {"final_obs": text, "final_info": info}
            else:
                infos = self._add_info(infos, info, index)
        for index, ending in final.items():
            infos = self._add_info(infos, ending, index)
        self._ended = np.logical_or(terminations, truncations)
        self._start([*waiting, *final], seed=None, options={}, infos=infos)
        return tuple(self._texts), rewards, terminations, truncations, infos

    def close_extras(self, **kwargs: Any) -> None:
        """End the episodes, their tasks and the thread; called by ``close``."""
        self._env.close()

    def _start(
        self,
        indices: Sequence[int],
        *,
        seed: int | Sequence[int | None] | None,
        options: dict[str, int],
        infos: dict[str, Any],
    ) -> None:
        """Start the episodes at the indices and add their infos."""
        if not indices:
            return
        starts = self._env.reset(seed=seed, options=options, only=indices)
        errors = self._env.errors
        for index in indices:
            self._ended[index] = False
            self._texts[index], info = self._begun(index, starts[index], errors[index])
            self._add_info(infos, info, index)

    def _begun(
        self, index: int, start: Start, error: Exception | None
    ) -> tuple[str, dict[str, Any]]:
        try:
            if error is None:
                return self._views[index].start(start)
        except WorkflowError as view_error:
            self._env.fail(index, view_error)
            error = view_error
        return "", {"error": _described(error)}

    def _seen(self, index: int, step: Step) -> OneStep:
        error = self._env.errors[index]
        if error is None:
            try:
                return self._views[index].step(step)
            except WorkflowError as view_error:
                self._env.fail(index, view_error)
                error = view_error
        return "", 0.0, False, True, {"error": _described(error)}

    def _masked(self, mask: object) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise SettingError(
                f"options['reset_mask'] must be a boolean array of shape ({self.num_envs},) with "
                f"at least one True, got {mask!r}"
            )
        return [int(index) for index in np.flatnonzero(mask)]


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
