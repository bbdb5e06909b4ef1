"""The game itself: one synchronous engine that holds every rule, whoever plays.

The engine asks and is answered; between two answers it stands still. Those whom it asks at once
decide without knowing of each other::

    game = Game(SEVEN_PLAYERS, seed=0)
    while game.requests:
        game.answer({request.player: decide(request) for request in game.requests})

What has happened is a list of events, each with the players who saw it. A player's view is made of
the events that it saw and of nothing else. Roles and broken ties are drawn from the seed alone, so
equal seeds and equal answers give equal events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from random import Random
from typing import TypeAlias

from astuner_envs.werewolves.rules import Role, Rules, Side, Tie


class Ask(StrEnum):
    """What a player is asked for."""

    WOLF_TALK = "wolf_talk"
    KILL = "kill"
    CHECK = "check"
    HEAL = "heal"
    POISON = "poison"
    TALK = "talk"
    VOTE = "vote"
    SHOOT = "shoot"
    LAST_WORDS = "last_words"

    @property
    def is_speech(self) -> bool:
        """Whether the answer is a speech, not the choice of a player."""
        return self in (Ask.WOLF_TALK, Ask.TALK, Ask.LAST_WORDS)


@dataclass(frozen=True, slots=True)
class Request:
    """Something that the engine waits for."""

    player: str
    ask: Ask
    targets: tuple[str, ...] = ()
    """Players who may be chosen; none where a speech is asked for."""
    may_pass: bool = False
    """Whether choosing nobody is allowed."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Words. The others hear them on one line, cut to ``Rules.speech_chars``."""

    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A player, or nobody."""

    target: str | None


Answer: TypeAlias = Speech | Choice | None
"""None is an answer that could not be read or did not come."""


class EventKind(StrEnum):
    """What an event tells."""

    ROLE = "role"
    """``player`` has the role ``text``; seen by itself."""
    PACK = "pack"
    """``player`` is a werewolf; seen by the pack."""
    NIGHT = "night"
    DAY = "day"
    WOLF_SPEECH = "wolf_speech"
    KILL_VOTE = "kill_vote"
    """``player`` wants ``target`` dead; seen by the pack once all have voted."""
    VICTIM = "victim"
    """The pack chose ``target``; seen by the pack, and by a witch who can still heal."""
    CHECKED = "checked"
    """The seer ``player`` learnt that ``target`` is of the side ``text``."""
    HEALED = "healed"
    POISONED = "poisoned"
    DIED = "died"
    """``player`` was found dead in the morning; how it died is not told."""
    QUIET = "quiet"
    """Nobody died in the night."""
    SPEECH = "speech"
    LAST_WORDS = "last_words"
    VOTE = "vote"
    """``player`` voted for ``target``, or for nobody; seen by all once all have voted."""
    TIED = "tied"
    """The vote was tied between the players in ``text``, who will be voted on again."""
    LYNCHED = "lynched"
    SPARED = "spared"
    """Nobody was lynched."""
    SHOT = "shot"
    """The dying hunter ``player`` shot ``target``."""
    ENDED = "ended"
    """The side ``text`` has won; no side if it is empty."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: EventKind
    round: int
    """From 1; 0 before the first night."""
    player: str = ""
    target: str = ""
    text: str = ""
    seen_by: tuple[str, ...] | None = None
    """None: all, the dead included."""


@dataclass(frozen=True, slots=True)
class View:
    """All that one player knows."""

    player: str
    rules: Rules
    events: tuple[Event, ...]
    """Those that it saw, in order."""
    alive: tuple[str, ...]
    """By seat."""

    @property
    def role(self) -> Role:
        """The player's own role."""
        return Role(self._first(EventKind.ROLE).text)

    @property
    def pack(self) -> tuple[str, ...]:
        """The werewolves, dead or alive, if the player is one of them; otherwise nobody."""
        before = takewhile(lambda event: event.round == 0, self.events)
        return tuple(event.player for event in before if event.kind is EventKind.PACK)

    def _first(self, kind: EventKind) -> Event:
        return next(event for event in self.events if event.kind is kind)


_Ask: TypeAlias = Generator[Sequence[Request], Mapping[str, Answer], None]


class Game:
    """One game."""

    def __init__(self, rules: Rules, *, seed: int) -> None:
        """Deal out the roles and begin the first night."""
        self.rules = rules
        self.seed = seed
        self.events: list[Event] = []
        """All that has happened, in order."""
        self._seen: dict[str, list[Event]] = {player: [] for player in rules.players}
        self.requests: tuple[Request, ...] = ()
        """What is asked now, by seat; empty once the game is over."""
        self.winner: Side | None = None
        """Set at the end, unless the round limit cut the game short."""
        self.round = 0
        self.asked: Counter[str] = Counter()
        """Requests so far, by player."""
        self.illegal: Counter[str] = Counter()
        """Of these, how many got no legal answer."""
        dealt = list(rules.roles)
        Random(f"werewolves/{seed}/roles").shuffle(dealt)
        self.roles: dict[str, Role] = dict(zip(rules.players, dealt, strict=True))
        self._alive = list(rules.players)
        self._healing = rules.witch
        self._poison = rules.witch
        self._play = self._whole_game()
        self._expect(next(self._play))

    @property
    def alive(self) -> tuple[str, ...]:
        """Living players, by seat."""
        return tuple(self._alive)

    @property
    def is_over(self) -> bool:
        """Whether nothing is asked any more."""
        return not self.requests

    @property
    def truncated(self) -> bool:
        """Whether the game ended without a winner."""
        return self.is_over and self.winner is None

    def view(self, player: str) -> View:
        """Return what the player knows now."""
        return View(
            player=player,
            rules=self.rules,
            events=tuple(self._seen[player]),
            alive=self.alive,
        )

    def answer(self, answers: Mapping[str, Answer]) -> None:
        """Go on with an answer to each request.

        An answer that is missing, unreadable or against the rules counts in ``illegal`` and is
        taken as silence, as no vote, or as not using a power: it never ends or stalls the game.

        Args:
            answers: By player; those of players who are not asked are an error.

        Raises:
            ValueError: A player answers who was not asked, or the game is over.
        """
        if self.is_over:
            raise ValueError("the game is over and asks nothing; begin another one")
        unasked = answers.keys() - {request.player for request in self.requests}
        if unasked:
            raise ValueError(
                f"only players who are asked may answer, got answers of {sorted(unasked)}; see "
                "Game.requests"
            )
        taken = {}
        for request in self.requests:
            given = answers.get(request.player)
            self.asked[request.player] += 1
            if not is_legal(request, given):
                self.illegal[request.player] += 1
                given = None
            taken[request.player] = given
        try:
            self._expect(self._play.send(taken))
        except StopIteration:
            self.requests = ()

    def _expect(self, requests: Sequence[Request]) -> None:
        self.requests = tuple(requests)

    def _whole_game(self) -> _Ask:
        for player, role in self.roles.items():
            self._tell(EventKind.ROLE, player, text=role, seen_by=[player])
        for wolf in self._pack():
            self._tell(EventKind.PACK, wolf, seen_by=self._pack())
        while self.winner is None and self.round < self.rules.rounds:
            self.round += 1
            yield from self._night()
            if self.winner is None:
                yield from self._day()
        self._tell(EventKind.ENDED, text=self.winner or "")

    def _night(self) -> _Ask:
        self._tell(EventKind.NIGHT)
        victim = yield from self._hunt()
        yield from self._see()
        healed, poisoned = yield from self._brew(victim)
        by_wolves = victim if not healed else None
        dead = [player for player in self._alive if player in (by_wolves, poisoned)]
        for player in dead:
            self._alive.remove(player)
            self._tell(EventKind.DIED, player)
        if not dead:
            self._tell(EventKind.QUIET)
        # Poison keeps a hunter from shooting, unless the wolves had killed it anyway.
        yield from self._after_death(
            dead,
            shoots=[player for player in dead if player == by_wolves],
            speak=self.round == 1,
        )

    def _day(self) -> _Ask:
        self._tell(EventKind.DAY)
        for _ in range(self.rules.talks):
            for player in self.alive:
                yield from self._speak(Request(player, Ask.TALK), EventKind.SPEECH)
        lynched = yield from self._vote(self.alive)
        if lynched is None:
            self._tell(EventKind.SPARED)
            return
        self._alive.remove(lynched)
        self._tell(EventKind.LYNCHED, lynched)
        yield from self._after_death([lynched], shoots=[lynched], speak=True)

    def _hunt(self) -> Generator[Sequence[Request], Mapping[str, Answer], str | None]:
        """Return whom the pack kills; None if no wolf made a legal choice."""
        wolves = [player for player in self._alive if player in self._pack()]
        if len(wolves) > 1:
            for _ in range(self.rules.wolf_talks):
                for wolf in wolves:
                    request = Request(wolf, Ask.WOLF_TALK)
                    yield from self._speak(request, EventKind.WOLF_SPEECH, seen_by=self._pack())
        targets = tuple(
            player
            for player in self._alive
            if self.rules.wolves_may_target_wolves or player not in wolves
        )
        answers = yield [Request(wolf, Ask.KILL, targets) for wolf in wolves]
        votes = {wolf: _target(answers[wolf]) for wolf in wolves}
        for wolf, target in votes.items():
            self._tell(EventKind.KILL_VOTE, wolf, target=target or "", seen_by=self._pack())
        tied = _most_named(votes.values(), order=targets)
        if not tied:
            return None
        victim = tied[0] if len(tied) == 1 else self._draw("kill", tied)
        self._tell(EventKind.VICTIM, target=victim, seen_by=self._pack())
        return victim

    def _see(self) -> _Ask:
        seer = self._living(Role.SEER)
        if seer is None:
            return
        targets = tuple(player for player in self._alive if player != seer)
        answers = yield [Request(seer, Ask.CHECK, targets)]
        target = _target(answers[seer])
        if target is not None:
            side = self.roles[target].side
            self._tell(EventKind.CHECKED, seer, target=target, text=side, seen_by=[seer])

    def _brew(
        self, victim: str | None
    ) -> Generator[Sequence[Request], Mapping[str, Answer], tuple[bool, str | None]]:
        """Return whether the witch healed the victim, and whom she poisoned."""
        witch = self._living(Role.WITCH)
        healed, poisoned = False, None
        if witch is None:
            return healed, poisoned
        told = self._healing and victim is not None
        if told and victim is not None:
            self._tell(EventKind.VICTIM, target=victim, seen_by=[witch])
            if victim != witch or self.rules.witch_may_heal_self:
                answers = yield [Request(witch, Ask.HEAL, (victim,), may_pass=True)]
                healed = _target(answers[witch]) is not None
        if healed:
            self._healing = False
            self._tell(EventKind.HEALED, witch, target=victim or "", seen_by=[witch])
        if self._poison and (not healed or self.rules.witch_may_use_both):
            targets = tuple(
                player
                for player in self._alive
                if player != witch and (healed or not told or player != victim)
            )
            if targets:
                answers = yield [Request(witch, Ask.POISON, targets, may_pass=True)]
                poisoned = _target(answers[witch])
        if poisoned is not None:
            self._poison = False
            self._tell(EventKind.POISONED, witch, target=poisoned, seen_by=[witch])
        return healed, poisoned

    def _vote(
        self, candidates: Sequence[str], *, again: bool = False
    ) -> Generator[Sequence[Request], Mapping[str, Answer], str | None]:
        """Return who is lynched."""
        requests = []
        for player in self.alive:
            targets = tuple(
                candidate for candidate in candidates if candidate != player or self.rules.self_vote
            )
            # Of two who are tied, each may vote for the other alone; of one, nobody.
            requests.append(Request(player, Ask.VOTE, targets))
        answers = yield requests
        votes = {player: _target(answers[player]) for player in self.alive}
        for player, target in votes.items():
            self._tell(EventKind.VOTE, player, target=target or "")
        tied = _most_named(votes.values(), order=candidates)
        if len(tied) <= 1:
            return tied[0] if tied else None
        if self.rules.tie == Tie.RANDOM:
            return self._draw("vote", tied)
        if self.rules.tie == Tie.NONE or again:
            return None
        self._tell(EventKind.TIED, text=" ".join(tied))
        return (yield from self._vote(tied, again=True))

    def _after_death(self, dead: Sequence[str], *, shoots: Collection[str], speak: bool) -> _Ask:
        """Let a hunter shoot, see who has won, and if nobody has, hear last words."""
        last_words = list(dead) if speak else []
        for player in dead:
            if self.roles[player] is not Role.HUNTER or player not in shoots or not self._alive:
                continue
            answers = yield [Request(player, Ask.SHOOT, self.alive, may_pass=True)]
            target = _target(answers[player])
            if target is not None:
                self._alive.remove(target)
                self._tell(EventKind.SHOT, player, target=target)
                last_words.append(target)
        self._settle()
        if self.winner is not None or not self.rules.last_words:
            return
        for player in last_words:
            yield from self._speak(Request(player, Ask.LAST_WORDS), EventKind.LAST_WORDS)

    def _settle(self) -> None:
        """See whether a side has won; without any wolf it is the village, even if all are dead."""
        wolves = sum(self.roles[player] is Role.WEREWOLF for player in self._alive)
        others = len(self._alive) - wolves
        if wolves == 0:
            self.winner = Side.VILLAGE
        elif others == 0 or (self.rules.parity and wolves >= others):
            self.winner = Side.WOLVES

    def _speak(
        self, request: Request, kind: EventKind, *, seen_by: Sequence[str] | None = None
    ) -> _Ask:
        answers = yield [request]
        speech = answers[request.player]
        # On one line, so that no speech can pass for somebody else's.
        text = " ".join(speech.text.split()) if isinstance(speech, Speech) else ""
        text = text[: self.rules.speech_chars]
        self._tell(kind, request.player, text=text, seen_by=seen_by)

    def _tell(
        self,
        kind: EventKind,
        player: str = "",
        *,
        target: str = "",
        text: str = "",
        seen_by: Sequence[str] | None = None,
    ) -> None:
        saw = None if seen_by is None else tuple(seen_by)
        event = Event(kind, self.round, player, target, str(text), saw)
        self.events.append(event)
        for witness in self._seen if saw is None else saw:
            self._seen[witness].append(event)

    def _pack(self) -> list[str]:
        return [player for player, role in self.roles.items() if role is Role.WEREWOLF]

    def _living(self, role: Role) -> str | None:
        """Return the one living player of a role that one player has."""
        return next((player for player in self._alive if self.roles[player] is role), None)

    def _draw(self, purpose: str, among: Sequence[str]) -> str:
        key = f"werewolves/{self.seed}/{purpose}/{self.round}"
        return Random(key).choice(among)


def is_legal(request: Request, answer: Answer) -> bool:
    """Return whether the rules allow this answer to the request."""
    if request.ask.is_speech:
        return isinstance(answer, Speech)
    if not isinstance(answer, Choice):
        return False
    if answer.target is None:
        return request.may_pass
    return answer.target in request.targets


def _target(answer: Answer) -> str | None:
    return answer.target if isinstance(answer, Choice) else None


def _most_named(votes: Collection[str | None], *, order: Sequence[str]) -> list[str]:
    """Return those with the most votes, in the given order; nobody without any vote."""
    counts = Counter(target for target in votes if target is not None)
    most = max(counts.values(), default=0)
    return [player for player in order if most and counts[player] == most]
