"""A stepped workflow for libraries that know all agents beforehand and want text from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from astuner_gym.adapters.reading import Reading
from astuner_gym.env import Action, Info, WorkflowEnv
from astuner_gym.errors import SettingError, WorkflowError
from astuner_gym.spaces import UnicodeText


@dataclass(frozen=True, slots=True)
class TextStep:
    """What a step came to, for each agent of the episode."""

    observations: dict[str, str] = field(default_factory=dict)
    """What the agent has to read since its own last turn (``Reading``); ``""`` for those who
    need not act."""
    rewards: dict[str, float] = field(default_factory=dict)
    terminations: dict[str, bool] = field(default_factory=dict)
    truncations: dict[str, bool] = field(default_factory=dict)
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those of :class:`WorkflowEnv`: who must act now has a ``call`` in it, and nobody else."""


class TextTurns:
    """Keeps, beside a :class:`WorkflowEnv`, whose turn it is and what each agent has read.

    All agents that may act are in an episode from its beginning to its end. One who never acts
    waits all the time, and one who leaves waits from then on: what the judge gives it at the end
    would be lost with libraries that forget an agent once it is terminated.
    """

    def __init__(self, env: WorkflowEnv, *, agents: Sequence[str] | None = None) -> None:
        """Make the turns; nothing runs before :meth:`reset`.

        Args:
            env: The stepped workflow.
            agents: All agents that may be stepped; those that the environment names if None.

        Raises:
            SettingError: There are no agents, or one is named twice.
        """
        self.env = env
        self.possible_agents = list(env.environment.agents if agents is None else agents)
        if not self.possible_agents or len({*self.possible_agents}) < len(self.possible_agents):
            raise SettingError(
                "agents must name each agent that may act, once, for their spaces to be known "
                f"beforehand, got {self.possible_agents}; give agents=[…] or set Environment.agents"
            )
        self.agents: list[str] = []
        """``possible_agents`` in an episode, nobody outside."""
        self.due: list[str] = []
        """Those of them who must act now, in the same order."""
        self._reading = Reading()

    def text_spaces(self) -> dict[str, UnicodeText]:
        """Return new spaces of text, one for each agent, as long as actions may be."""
        length = self.env.action_space("").max_length
        return {agent: UnicodeText(length) for agent in self.possible_agents}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> TextStep:
        """Start an episode; of the options only ``task`` has a meaning, and others are let pass.

        Raises:
            WorkflowError: The workflow failed, made no call, or an agent is not among those named.
        """
        known = {name: value for name, value in (options or {}).items() if name == "task"}
        self.agents, self.due, self._reading = [], [], Reading()
        _, infos = self.env.reset(seed=seed, options=known)
        if not self.env.agents:
            raise WorkflowError("a workflow must call its model to be stepped, and this one ended")
        self.agents = list(self.possible_agents)
        return self._step({}, {}, {}, infos)

    def step(self, actions: Mapping[str, Action]) -> TextStep:
        """Answer for those who must act; the actions of others are ignored.

        Raises:
            InvalidAction: An agent that must act is missing.
            ResetNeeded: No episode is under way.
            WorkflowError: The workflow failed, or an agent is not among those named.
            JudgeError: The judge failed.
        """
        due = {agent: actions[agent] for agent in self.due if agent in actions}
        _, rewards, terminations, truncations, infos = self.env.step(due)
        step = self._step(rewards, terminations, truncations, infos)
        if not self.due:
            self.agents = []
        return step

    def _step(
        self,
        rewards: Mapping[str, float],
        terminations: Mapping[str, bool],
        truncations: Mapping[str, bool],
        infos: Mapping[str, Info],
    ) -> TextStep:
        unknown = infos.keys() - {*self.possible_agents}
        if unknown:
            self.env.abandon()
            raise WorkflowError(
                f"agents must be among those named beforehand, {self.possible_agents}, got "
                f"{sorted(unknown)}; name them too"
            )
        waiting = {*self.env.agents}
        self.due = [agent for agent in self.agents if agent in waiting]
        over = not waiting
        cut = over and any(truncations.values())
        step = TextStep()
        for agent in self.agents:
            info = infos.get(agent, Info())
            step.observations[agent] = self._reading.new(info["call"]) if agent in waiting else ""
            step.rewards[agent] = float(rewards.get(agent, 0.0))
            step.terminations[agent] = over and terminations.get(agent, not cut)
            step.truncations[agent] = over and truncations.get(agent, cut)
            step.infos[agent] = dict(info)
        return step
