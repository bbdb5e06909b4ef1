"""Multi-agent environments for RLlib's new API stack: of arrays with action masks, and of text.

RLlib trains on :class:`RLlibMaskedEnv`. :class:`RLlibWorkflowEnv` steps any workflow by RLlib's
rules, but RLlib has no default encoder for text: a policy over it needs an RLModule of its own that
reads and writes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from astuner_gym.adapters.text_turns import TextTurns
from astuner_gym.env import Action, WorkflowEnv
from astuner_gym.errors import SettingError

T = TypeVar("T")

ALL = "__all__"
"""RLlib's key for the end of the whole episode."""
MASK = "action_mask"

MaskedObservation: TypeAlias = dict[str, NDArray[Any]]
"""``observations`` [features] float32 in -1 … 1 and ``action_mask`` [actions] float32, 1 for what
is allowed."""


class StructuredEnv(Protocol):
    """A multi-agent environment of arrays, whose dicts hold the agents who must act now.

    Observations are dicts of numpy arrays, ``action_mask`` among them, in a ``Dict`` of bounded
    ``Box`` spaces that is the same for all agents; actions are integers. The last dicts of an
    episode hold every agent whom it ends.
    """

    possible_agents: list[str]
    agents: list[str]
    """Those who must act now; nobody once the episode is over."""

    def observation_space(self, agent: str) -> spaces.Dict: ...

    def action_space(self, agent: str) -> spaces.Discrete[np.int64]: ...

    def reset(self, *, seed: int | None = None) -> tuple[Any, Any]:
        """Return observations and infos."""
        ...

    def step(self, actions: Mapping[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        """Return observations, rewards, terminations, truncations and infos."""
        ...

    def close(self) -> None: ...


class RLlibMaskedEnv(MultiAgentEnv):
    """Puts the arrays of an observation into one vector, each value divided by its bound.

    What is allowed stays beside it, for an RLModule that masks its logits.
    """

    def __init__(self, env: StructuredEnv) -> None:
        """Make the environment; ``env`` is closed with it.

        Raises:
            SettingError: An array of the observations has no finite bounds.
        """
        self._env = env
        self.possible_agents = list(env.possible_agents)
        self.agents = list(self.possible_agents)
        super().__init__()
        seen = env.observation_space(self.possible_agents[0])
        mask = seen[MASK]
        self._names = [name for name in seen if name != MASK]
        self._bounds = np.concatenate([_bound(name, seen[name]) for name in self._names])
        observations = spaces.Dict(
            {
                "observations": spaces.Box(-1.0, 1.0, self._bounds.shape, np.float32),
                MASK: spaces.Box(0.0, 1.0, mask.shape, np.float32),
            }
        )
        self.observation_spaces = dict.fromkeys(self.possible_agents, observations)
        self.action_spaces: dict[str, Space[Any]] = {
            agent: env.action_space(agent) for agent in self.possible_agents
        }

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, MaskedObservation], dict[str, Any]]:
        """Start an episode; there are no options."""
        observations, infos = self._env.reset(seed=seed)
        return self._in_vectors(observations), infos

    def step(
        self, action_dict: Mapping[str, int]
    ) -> tuple[
        dict[str, MaskedObservation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, Any],
    ]:
        """Act for those who must; the key ``__all__`` tells the end of the episode."""
        observations, rewards, terminations, truncations, infos = self._env.step(action_dict)
        over = not self._env.agents
        cut = over and any(truncations.values())
        return (
            self._in_vectors(observations),
            rewards,
            {**terminations, ALL: over and not cut},
            _truncations(truncations, cut=cut),
            infos,
        )

    def close(self) -> None:
        """Close the environment inside."""
        self._env.close()

    def _in_vectors(
        self, observations: Mapping[str, Mapping[str, NDArray[Any]]]
    ) -> dict[str, MaskedObservation]:
        return {
            agent: {
                "observations": np.concatenate([np.ravel(seen[name]) for name in self._names])
                / self._bounds,
                MASK: seen[MASK].astype(np.float32),
            }
            for agent, seen in observations.items()
        }


class RLlibWorkflowEnv(MultiAgentEnv):
    """A workflow in text: an observation is what the agent has to read since its own last turn.

    Dicts hold the agents who must act now and those who were rewarded, and at the end all agents.
    """

    def __init__(self, env: WorkflowEnv, *, agents: Sequence[str] | None = None) -> None:
        """Make the environment.

        Args:
            env: The stepped workflow; closed with this environment.
            agents: All agents that may be stepped; those that the environment names if None.

        Raises:
            SettingError: There are no agents, or one is named twice.
        """
        self._turns = TextTurns(env, agents=agents)
        self.possible_agents = list(self._turns.possible_agents)
        self.agents = list(self.possible_agents)
        super().__init__()
        self.observation_spaces = self._turns.text_spaces()
        self.action_spaces = self._turns.text_spaces()

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Start an episode; see :meth:`TextTurns.reset`."""
        step = self._turns.reset(seed=seed, options=options)
        due = self._turns.due
        return _only(due, step.observations), _only(due, step.infos)

    def step(
        self, action_dict: Mapping[str, Action]
    ) -> tuple[
        dict[str, str],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Answer for those who must act; the key ``__all__`` tells the end of the episode."""
        step = self._turns.step(action_dict)
        seen = self._turns.due or self.possible_agents
        rewarded = [agent for agent, reward in step.rewards.items() if reward or agent in seen]
        over = not self._turns.due
        cut = over and any(step.truncations.values())
        return (
            _only(seen, step.observations),
            _only(rewarded, step.rewards),
            {**_only(seen, step.terminations), ALL: over and not cut},
            _truncations(seen, cut=cut),
            _only(seen, step.infos),
        )

    def close(self) -> None:
        """End the episode, its tasks and its thread."""
        self._turns.env.close()


def _bound(name: str, space: Space[Any]) -> NDArray[np.float32]:
    """Return the largest magnitude of each value, in one row; 1 for those that are always 0."""
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        raise SettingError(
            f"each array of an observation needs finite bounds to be scaled by, got "
            f"{name}={space}; make it a bounded Box"
        )
    bounds = np.maximum(np.abs(space.low.astype(np.float32)), np.abs(space.high.astype(np.float32)))
    return np.where(bounds == 0, np.float32(1), bounds).ravel()


def _truncations(agents: Iterable[str], *, cut: bool) -> dict[str, bool]:
    """Tell that the episode was cut short, which goes for all who have not left.

    RLlib takes an episode whose agents are truncated one by one for terminated, and with that the
    value of where it was cut for 0.
    """
    return {**dict.fromkeys(agents, False), ALL: cut}


def _only(agents: Sequence[str], values: Mapping[str, T]) -> dict[str, T]:
    return {agent: values[agent] for agent in agents}
