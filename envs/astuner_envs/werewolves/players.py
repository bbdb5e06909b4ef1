"""Scripted players with names: baselines to be compared with, and opponents to be trained against.

A player decides by its view alone and draws from the random numbers that it is given, so a game
between scripted players is a function of its seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Protocol

from astuner_envs.werewolves.engine import (
    Answer,
    Ask,
    Choice,
    EventKind,
    Game,
    Request,
    Speech,
    View,
)
from astuner_envs.werewolves.rules import Role, Side
from astuner_envs.werewolves.talk import NOTHING, Claim, claims_in


class Player(Protocol):
    """Plays any role."""

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return the answer to a request."""
        ...


class Uniform:
    """Chooses among everything that is allowed, each as likely as the other, talk included."""

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return a legal answer, drawn uniformly."""
        if request.ask.is_speech:
            return Speech(random.choice(speeches(view)))
        nobody = (None,) if request.may_pass else ()
        choices = (*request.targets, *nobody)
        return Choice(random.choice(choices)) if choices else None


def speeches(view: View) -> tuple[str, ...]:
    """Return everything that can be said in the sentences of :mod:`astuner_envs.werewolves.talk`.

    It is of living players other than the speaker.
    """
    others = [player for player in view.alive if player != view.player]
    return (
        NOTHING,
        *(
            str(Claim(target, is_wolf, checked))
            for checked in (False, True)
            for is_wolf in (True, False)
            for target in others
        ),
    )


class Silent:
    """Chooses uniformly and never says anything, which gives it away among those who talk."""

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return a legal answer."""
        if request.ask.is_speech:
            return Speech(NOTHING)
        return Uniform().decide(request, view, random)


class SeerFollowing:
    """A village that believes its seer; as a werewolf it plays uniformly.

    Each player believes the first who claimed to have checked somebody and whom it does not know
    for a liar: whoever calls it a werewolf is one, and so is, to the seer, any other seer. It votes
    for those whom the believed one called werewolves, then for others who claim to be the seer,
    then for the most suspected, and never for those who were cleared if there is another choice.
    The seer tells what it learnt, a werewolf before all else. The witch heals whom she can and
    poisons, as the hunter shoots, only known or claimed werewolves.
    """

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return the answer to a request."""
        if view.role is Role.WEREWOLF:
            return Uniform().decide(request, view, random)
        match request.ask:
            case Ask.TALK | Ask.LAST_WORDS:
                return Speech(_report(view))
            case Ask.CHECK:
                known = {target for target, _ in _checks(view)}
                return _one_of(request.targets, random, avoid=known)
            case Ask.HEAL:
                return Choice(request.targets[0])
            case Ask.VOTE:
                return _vote(request, view, random)
            case _:
                wolves = [player for player in _wolves(view) if player in request.targets]
                return Choice(wolves[0] if wolves else None)


class Careful:
    """Wolves who stay together, as a village the same as ``SeerFollowing``.

    They kill whoever else has claimed to be the seer, and never choose or vote for each other. The
    first of them by seat claims to be the seer: it says of a villager to be a werewolf, and the
    others agree.
    """

    def decide(self, request: Request, view: View, random: Random) -> Answer:
        """Return the answer to a request."""
        if view.role is not Role.WEREWOLF:
            return SeerFollowing().decide(request, view, random)
        pack = view.pack
        victims = [player for player in view.alive if player not in pack]
        accused = [
            claim.target
            for speaker, claim in _claims(view)
            if speaker in pack and claim.is_wolf and claim.target in victims
        ]
        match request.ask:
            case Ask.TALK:
                if accused:
                    return Speech(str(Claim(accused[-1], is_wolf=True)))
                first = next(player for player in view.alive if player in pack)
                is_seer = view.player == first and bool(victims)
                return Speech(
                    str(Claim(random.choice(victims), is_wolf=True, checked=True))
                    if is_seer
                    else NOTHING
                )
            case Ask.KILL:
                seers = [speaker for speaker, claim in _claims(view) if claim.checked]
                wanted = [who for who in seers if who in request.targets and who not in pack]
                return _first_or_one_of(wanted, request.targets, random, avoid=pack)
            case Ask.VOTE:
                wanted = [player for player in reversed(accused) if player in request.targets]
                return _first_or_one_of(wanted, request.targets, random, avoid=pack)
            case _:
                return Speech(NOTHING)


def _claims(view: View) -> list[tuple[str, Claim]]:
    """Return (speaker, claim) of all that was said in public, in order."""
    return [
        (event.player, claim)
        for event in view.events
        if event.kind in (EventKind.SPEECH, EventKind.LAST_WORDS)
        for claim in claims_in(event.text)
    ]


def _checks(view: View) -> list[tuple[str, bool]]:
    """Return whom the player itself has checked, and whether it is a werewolf."""
    return [
        (event.target, event.text == Side.WOLVES)
        for event in view.events
        if event.kind is EventKind.CHECKED
    ]


def _report(view: View) -> str:
    """Return what a seer says: a living werewolf if it knows one, else the latest it learnt."""
    checks = [(target, is_wolf) for target, is_wolf in _checks(view) if target in view.alive]
    if not checks:
        return NOTHING
    target, is_wolf = next((check for check in checks if check[1]), checks[-1])
    return str(Claim(target, is_wolf, checked=True))


def _believed(view: View) -> str | None:
    """Return the seer whom the player believes: itself if it is the seer."""
    if view.role is Role.SEER:
        return view.player
    seers = [(speaker, claim) for speaker, claim in _claims(view) if claim.checked]
    liars = {speaker for speaker, claim in seers if claim.is_wolf and claim.target == view.player}
    return next((speaker for speaker, _ in seers if speaker not in liars), None)


def _wolves(view: View) -> list[str]:
    """Return living players whom the player takes for werewolves, the surest first."""
    believed = _believed(view)
    claims = _claims(view)
    called = [
        claim.target
        for speaker, claim in claims
        if speaker == believed and claim.checked and claim.is_wolf
    ]
    checked = [target for target, is_wolf in _checks(view) if is_wolf]
    rivals = [speaker for speaker, claim in claims if claim.checked and speaker != believed]
    wolves = dict.fromkeys((*checked, *called, *rivals))
    return [player for player in wolves if player in view.alive and player != view.player]


def _cleared(view: View) -> set[str]:
    believed = _believed(view)
    claimed = {
        claim.target
        for speaker, claim in _claims(view)
        if speaker == believed and claim.checked and not claim.is_wolf
    }
    return claimed | {target for target, is_wolf in _checks(view) if not is_wolf}


def _vote(request: Request, view: View, random: Random) -> Answer:
    wolves = [player for player in _wolves(view) if player in request.targets]
    if wolves:
        return Choice(wolves[0])
    cleared = _cleared(view) | ({_believed(view) or ""})
    suspicions = Counter(
        claim.target
        for _, claim in _claims(view)
        if claim.is_wolf and claim.target in request.targets and claim.target not in cleared
    )
    if suspicions:
        return Choice(suspicions.most_common(1)[0][0])
    return _one_of(request.targets, random, avoid=cleared)


def _one_of(targets: Sequence[str], random: Random, *, avoid: Collection[str]) -> Answer:
    """Choose one of the targets at random, one that is not to be avoided if there is any."""
    wanted = [target for target in targets if target not in avoid] or targets
    return Choice(random.choice(wanted)) if wanted else None


def _first_or_one_of(
    wanted: Sequence[str], targets: Sequence[str], random: Random, *, avoid: Collection[str]
) -> Answer:
    return Choice(wanted[0]) if wanted else _one_of(targets, random, avoid=avoid)


PLAYERS: Mapping[str, type[Player]] = {
    "uniform": Uniform,
    "silent": Silent,
    "seer_following": SeerFollowing,
    "careful": Careful,
}
"""By the names that settings use."""


def draws(game: Game, request: Request) -> Random:
    """Return the random numbers for one answer: named by seed, player and request."""
    return Random(f"werewolves/{game.seed}/{request.player}/{game.asked[request.player]}")


def play(game: Game, players: Mapping[str, Player]) -> None:
    """Play a game to its end, each seat by its player."""
    while game.requests:
        game.answer(
            {
                request.player: players[request.player].decide(
                    request, game.view(request.player), draws(game, request)
                )
                for request in game.requests
            }
        )
