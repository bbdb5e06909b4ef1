"""A workflow as PettingZoo's multi-agent environments of text, for turns and for parallel play."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Dict
from pettingzoo import AECEnv, ParallelEnv

from astuner_gym.adapters.text_turns import TextStep, TextTurns
from astuner_gym.env import Action, WorkflowEnv
from astuner_gym.spaces import UnicodeText
from astuner_gym.stepped_episode import check_action

TextObservation: TypeAlias = dict[str, str]
"""``{"text": …}``: PettingZoo's tests take text in a dict alone, and under no other key than its
own ``observation``."""


class ParallelWorkflowEnv(ParallelEnv[str, TextObservation, Action]):
    """Every agent is in all dicts of each step, and all end with the episode.

    Those who need not act read ``""``, have no ``call`` in their info, and their actions are
    ignored. An observation is what the agent has to read since its own last turn.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "workflow_parallel", "render_modes": []}

    def __init__(self, env: WorkflowEnv, *, agents: Sequence[str] | None = None) -> None:
        """Make the environment.

        Args:
            env: The stepped workflow; closed with this environment.
            agents: All agents that may be stepped; those that the environment names if None.

        Raises:
            SettingError: There are no agents, or one is named twice.
        """
        self._turns = TextTurns(env, agents=agents)
        self._observation_spaces = _dicts(self._turns.text_spaces())
        self._action_spaces = self._turns.text_spaces()
        self.possible_agents = list(self._turns.possible_agents)
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> Dict:
        """Return the agent's space of observations, the same object each time."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> UnicodeText:
        """Return the agent's space of actions, the same object each time."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, TextObservation], dict[str, dict[str, Any]]]:
        """Start an episode; see :meth:`TextTurns.reset`."""
        self.agents = []
        step = self._turns.reset(seed=seed, options=options)
        self.agents = list(self._turns.agents)
        return _in_dicts(step), step.infos

    def step(
        self, actions: Mapping[str, Action]
    ) -> tuple[
        dict[str, TextObservation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Answer for those who must act; see :meth:`TextTurns.step`."""
        step = self._turns.step(actions)
        self.agents = list(self._turns.agents)
        return _in_dicts(step), step.rewards, step.terminations, step.truncations, step.infos

    def close(self) -> None:
        """End the episode, its tasks and its thread."""
        self._turns.env.close()


class AECWorkflowEnv(AECEnv[str, TextObservation, Action]):
    """One agent acts after the other, those who must act at once in the order of their names.

    These still act without knowing of each other: the workflow goes on when all have acted. Who
    need not act is not selected. An observation is what the agent has to read since its own last
    turn, ``""`` at its end.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "workflow",
        "render_modes": [],
        "is_parallelizable": False,
    }

    def __init__(self, env: WorkflowEnv, *, agents: Sequence[str] | None = None) -> None:
        """Make the environment.

        Args:
            env: The stepped workflow; closed with this environment.
            agents: All agents that may be stepped; those that the environment names if None.

        Raises:
            SettingError: There are no agents, or one is named twice.
        """
        super().__init__()
        self._turns = TextTurns(env, agents=agents)
        self._observation_spaces = _dicts(self._turns.text_spaces())
        self._action_spaces = self._turns.text_spaces()
        self.possible_agents = list(self._turns.possible_agents)
        self.agents: list[str] = []
        self.agent_selection = ""
        self._texts: dict[str, str] = {}
        self._actions: dict[str, Action] = {}

    def observation_space(self, agent: str) -> Dict:
        """Return the agent's space of observations, the same object each time."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> UnicodeText:
        """Return the agent's space of actions, the same object each time."""
        return self._action_spaces[agent]

    def observe(self, agent: str) -> TextObservation:
        """Return what the agent has to read now."""
        return {"text": self._texts[agent]}

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Start an episode; see :meth:`TextTurns.reset`."""
        self.agents, self._actions = [], {}
        step = self._turns.reset(seed=seed, options=options)
        self.agents = list(self._turns.agents)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self._skip_agent_selection = None
        self._take(step)

    def step(self, action: Action | None) -> None:
        """Act for ``agent_selection``; None is the one action of an agent at its end.

        Raises:
            InvalidAction: An agent gets None before its end, or what can be no reply; nothing has
                changed, and it may act again.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, or an agent is not among those named.
            JudgeError: The judge failed.
        """
        if not self.agents:
            raise ResetNeeded("step needs an episode under way, and it has ended; call reset")
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        if action is None:
            raise InvalidAction(
                f"each agent needs a reply before its end, got None for {agent!r}; give it text"
            )
        # Now, not when the last one has acted: only this agent has to act again.
        check_action(agent, action)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._actions[agent] = action
        waiting = [other for other in self._turns.due if other not in self._actions]
        if waiting:
            self.agent_selection = waiting[0]
            return
        actions, self._actions = self._actions, {}
        self._take(self._turns.step(actions))
        self._accumulate_rewards()
        self._deads_step_first()

    def close(self) -> None:
        """End the episode, its tasks and its thread."""
        self._turns.env.close()

    def _take(self, step: TextStep) -> None:
        self._texts = step.observations
        self.rewards, self.infos = step.rewards, step.infos
        self.terminations, self.truncations = step.terminations, step.truncations
        if self._turns.due:
            self.agent_selection = self._turns.due[0]


def _dicts(texts: Mapping[str, UnicodeText]) -> dict[str, Dict]:
    return {agent: Dict({"text": text}) for agent, text in texts.items()}


def _in_dicts(step: TextStep) -> dict[str, TextObservation]:
    return {agent: {"text": text} for agent, text in step.observations.items()}
