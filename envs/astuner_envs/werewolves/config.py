"""Settings of the werewolves environment, and how they become an environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from astuner_envs.werewolves.demonstrations import GameConversations
from astuner_envs.werewolves.judge import WerewolvesJudge
from astuner_envs.werewolves.players import PLAYERS
from astuner_envs.werewolves.rules import NINE_PLAYERS, SEVEN_PLAYERS, Role, Rules, Side, Tie
from astuner_envs.werewolves.tasks import MODEL, Tables, read_tables
from astuner_envs.werewolves.workflow import WerewolvesWorkflow
from astuner_gym.environment import DemonstrationSets, Environment
from astuner_gym.errors import SettingError
from astuner_gym.task import TaskSource, hold_out

PRESETS = {7: SEVEN_PLAYERS, 9: NINE_PLAYERS}
TRAIN_SIZE = 100_000
HELD_OUT_SIZE = 2_000
DEMONSTRATED_GAMES = 600
_HELD_OUT_SEED, _DEMONSTRATION_SEED = 10_000_000, 20_000_000
"""Seeds below belong to training."""


@dataclass
class WerewolvesTasksConfig:
    """Which games are played."""

    path: str | None = None
    """JSONL file of games, each with an integer ``seed`` and, if wanted, the players ``wolves`` and
    ``village``, which go before the settings; its last tenth is held out. Null plays generated
    ones."""
    seed: int = 0
    """Of the generated games."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same file.
        self.path = None if self.path is None else str(Path(self.path).expanduser().absolute())
        if not 0 <= self.seed < 100:
            raise SettingError(
                f"env.tasks.seed must be in 0 … 99, got {self.seed}; set env.tasks.seed=0, say"
            )


@dataclass
class WerewolvesConfig:
    """Settings of ``env=werewolves``."""

    name: str = "werewolves"
    """What messages call it."""
    tasks: WerewolvesTasksConfig = field(default_factory=WerewolvesTasksConfig)
    trainable: list[str] | None = field(default_factory=lambda: [Role.WEREWOLF.value])
    """Roles that learn, played by models; null for all."""
    players: int = 7
    """7 (2 werewolves, 3 villagers, seer, witch) or 9 (3, 3, seer, witch, hunter)."""
    wolves: str = "careful"
    """Who plays werewolves that do not learn: the name of a scripted player, or ``model``."""
    village: str = "seer_following"
    """Who plays the roles of the village that do not learn."""
    baselines: list[str] = field(default_factory=lambda: ["uniform"])
    """Scripted players against whom each side that learns is measured in further evaluations."""
    tie: str = Tie.RANDOM.value
    """A tied vote lynches one of those tied (``random``), nobody (``none``), or is voted on again
    (``revote``)."""
    self_vote: bool = False
    """Whether players may vote to lynch themselves."""
    wolves_may_target_wolves: bool = False
    """Whether the pack may choose one of its own as victim."""
    witch_may_heal_self: bool = False
    """Whether the witch may heal herself when the pack has chosen her."""
    witch_may_use_both: bool = False
    """Whether the witch may heal and poison in the same night."""
    parity: bool = True
    """Wolves win once they are as many as the others; if false, once the others are dead."""
    last_words: bool = True
    """Whether those speak who die in the first night, by the vote or by the hunter."""
    wolf_talks: int = 1
    """Times that each wolf speaks to its pack before a kill."""
    talks: int = 1
    """Times that each player speaks in a day."""
    rounds: int = 6
    """Rounds after which a game is cut short; nobody has won it."""
    illegal_reply_penalty: float = 0.1
    """What a reply against the rules, or that cannot be read, takes off its player's reward."""

    def __post_init__(self) -> None:
        if self.players not in PRESETS:
            raise SettingError(
                f"env.players must be one of {[*PRESETS]}, got {self.players}; set env.players=7"
            )
        known = [MODEL, *PLAYERS]
        for side in Side:
            if self._script(side) not in known:
                raise SettingError(
                    f"env.{side} must be one of {known}, got {self._script(side)!r}; "
                    f"set env.{side}={MODEL}, say"
                )
        for name in self.baselines:
            if name not in PLAYERS:
                raise SettingError(
                    f"env.baselines must be among {[*PLAYERS]}, got {name!r}; "
                    "set env.baselines=[uniform], say"
                )
        if self.tie not in [*Tie]:
            raise SettingError(
                f"env.tie must be one of {[*map(str, Tie)]}, got {self.tie!r}; "
                f"set env.tie={Tie.RANDOM}"
            )
        if not 0 <= self.illegal_reply_penalty < float("inf"):
            raise SettingError(
                "env.illegal_reply_penalty must be >= 0 and finite, got "
                f"{self.illegal_reply_penalty}; set env.illegal_reply_penalty=0.1, say"
            )
        roles = [*map(str, self.rules.roles)]
        for role in self.trainable or ():
            if role not in roles:
                raise SettingError(
                    f"env.trainable must be among {sorted({*roles})} with {self.players} players, "
                    f"got {role!r}; set env.trainable=[{roles[0]}], say, or null to train all"
                )

    def refuse_idle_opponent(self) -> None:
        """Refuse an opponent where no model plays a role that does not learn.

        Games of a file may name their players, so that nothing is known of them beforehand.

        Raises:
            SettingError: Scripts play all roles that do not learn, or there is none.
        """
        if self.tasks.path is not None:
            return
        learning = self.rules.roles if self.trainable is None else self.trainable
        left = [role.side for role in self.rules.roles if role not in learning]
        sides = [side for side in Side if side in left]
        if any(self._script(side) == MODEL for side in sides):
            return
        choices = [f"env.{side}={MODEL}" for side in sides] or ["env.trainable=[<fewer roles>]"]
        raise SettingError(
            "an opponent plays the roles that ask a model and do not learn, and there is none with "
            f"env.trainable=[{','.join(learning)}] env.wolves={self.wolves} "
            f"env.village={self.village}; set {' or '.join(choices)}, or opponent=none"
        )

    @property
    def rules(self) -> Rules:
        """The rules of the game.

        Raises:
            SettingError: A rule cannot be played.
        """
        preset = PRESETS[self.players]
        return Rules(
            werewolves=preset.werewolves,
            villagers=preset.villagers,
            seer=preset.seer,
            witch=preset.witch,
            hunter=preset.hunter,
            wolf_talks=self.wolf_talks,
            talks=self.talks,
            last_words=self.last_words,
            self_vote=self.self_vote,
            wolves_may_target_wolves=self.wolves_may_target_wolves,
            witch_may_heal_self=self.witch_may_heal_self,
            witch_may_use_both=self.witch_may_use_both,
            tie=Tie(self.tie),
            parity=self.parity,
            rounds=self.rounds,
        )

    def build(self) -> Environment:
        """Build the environment; see :class:`astuner_gym.environment.EnvironmentConfig`."""
        players = self._players()
        train, held_out = self._tables(players)
        return Environment(
            name=self.name,
            workflow=WerewolvesWorkflow(self.rules),
            judge=WerewolvesJudge(
                illegal_reply_penalty=self.illegal_reply_penalty, side=self._measured_side()
            ),
            train_tasks=train,
            eval_tasks={"heldout": held_out, **self._against_baselines(players)},
            demonstrations=DemonstrationSets(
                train=GameConversations(self.rules, _DEMONSTRATION_SEED, DEMONSTRATED_GAMES),
                held_out=GameConversations(
                    self.rules, _DEMONSTRATION_SEED + DEMONSTRATED_GAMES, DEMONSTRATED_GAMES
                ),
            ),
            agents=self.rules.players,
        )

    def _tables(self, players: dict[str, str]) -> tuple[TaskSource, TaskSource]:
        if self.tasks.path is not None:
            return hold_out(read_tables(Path(self.tasks.path), players))
        train = Tables("game", self.tasks.seed * TRAIN_SIZE, TRAIN_SIZE, players)
        return train, self._held_out("heldout", players)

    def _against_baselines(self, players: dict[str, str]) -> dict[str, TaskSource]:
        """Return games of a side that learns against one that a script plays, by set name."""
        learning = self._learning_sides()
        sets = {}
        for side in learning:
            (other,) = (each for each in Side if each is not side)
            prefix = "vs" if len(learning) == 1 else f"{side}_vs"
            seats = {seat: who for seat, who in players.items() if seat not in other.roles}
            for name in self.baselines:
                if players[other] != name or self._has_models(other, players):
                    sets[f"{prefix}_{name}"] = self._held_out(
                        f"{prefix}_{name}", {**seats, other.value: name}
                    )
        return sets

    def _measured_side(self) -> Side:
        """Return the side whose wins count as success: the one that learns, or the wolves."""
        sides = self._learning_sides()
        return sides[0] if len(sides) == 1 else Side.WOLVES

    def _learning_sides(self) -> list[Side]:
        learning = [*self.rules.roles] if self.trainable is None else self.trainable
        return [side for side in Side if any(role in learning for role in side.roles)]

    def _held_out(self, name: str, players: dict[str, str]) -> TaskSource:
        return Tables(
            name, _HELD_OUT_SEED + self.tasks.seed * HELD_OUT_SIZE, HELD_OUT_SIZE, players
        )

    def _players(self) -> dict[str, str]:
        """Return who plays each side, and the roles of it that learn and are played by models."""
        learning = self.rules.roles if self.trainable is None else self.trainable
        scripts = {side.value: self._script(side) for side in Side}
        return {**scripts, **{str(role): MODEL for role in sorted({*learning})}}

    def _has_models(self, side: Side, players: dict[str, str]) -> bool:
        return MODEL in (players[side], *(players.get(role) for role in side.roles))

    def _script(self, side: Side) -> str:
        return self.wolves if side is Side.WOLVES else self.village
