"""The game in words: what a player is told, what it is asked, and how its reply is read.

A player's conversation is one system message about who it is, and then one user message for each
thing it is asked for, which begins with all that it saw since it last spoke. So every prompt
extends the one before it.
"""

from __future__ import annotations

import re

from astuner_envs.werewolves.engine import (
    Answer,
    Ask,
    Choice,
    Event,
    EventKind,
    Request,
    Speech,
    View,
)
from astuner_envs.werewolves.rules import NAMES, Role, Rules, Side, Tie

NOBODY = "nobody"

_TASKS = {
    Role.WEREWOLF: "Each night your pack kills a player. By day, do not be found out.",
    Role.VILLAGER: "Find the werewolves and have them lynched.",
    Role.SEER: "Each night you learn whether a player is a werewolf.",
    Role.HUNTER: "When you die, unless by poison, you may shoot a player.",
}
_QUESTIONS = {
    Ask.WOLF_TALK: "Say something to your pack.",
    Ask.KILL: "Whom does your pack kill?",
    Ask.CHECK: "Whom do you check?",
    Ask.HEAL: "Whom do you heal?",
    Ask.POISON: "Whom do you poison?",
    Ask.TALK: "Say something to all.",
    Ask.VOTE: "Whom do you vote to lynch?",
    Ask.SHOOT: "You die. Whom do you shoot?",
    Ask.LAST_WORDS: "You are dead. Say your last words to all.",
}
_LINES = {
    EventKind.NIGHT: "Night {round}.",
    EventKind.DAY: "Day {round}.",
    EventKind.WOLF_SPEECH: "{player}: {text}",
    EventKind.KILL_VOTE: "{player} votes {target}.",
    EventKind.VICTIM: "The wolves chose {target}.",
    EventKind.CHECKED: "You checked {target}: {verdict}.",
    EventKind.DIED: "{player} died in the night.",
    EventKind.QUIET: "Nobody died in the night.",
    EventKind.SPEECH: "{player}: {text}",
    EventKind.LAST_WORDS: "{player}, dying: {text}",
    EventKind.VOTE: "{player} votes {target}.",
    EventKind.TIED: "Tied: {text}.",
    EventKind.LYNCHED: "{player} was lynched.",
    EventKind.SPARED: "Nobody was lynched.",
    EventKind.SHOT: "{player} shot {target}.",
}
"""What is told of an event. Of the others a player learns nothing that it does not know."""
_OWN = frozenset(
    {
        EventKind.WOLF_SPEECH,
        EventKind.SPEECH,
        EventKind.LAST_WORDS,
        EventKind.KILL_VOTE,
        EventKind.VOTE,
    }
)
"""Events that are not told to whoever made them: its own reply stands in its conversation."""
_NAME = re.compile(rf"\b(?:{'|'.join((*NAMES, NOBODY))})\b", re.IGNORECASE)


def introduction(view: View) -> str:
    """Return the system message of a player, from its view before the first night."""
    role = view.role
    return "\n".join(
        (
            f"You are {view.player}, {_with_article(role)} in a game of werewolves.",
            *([f"Your pack: {' '.join(view.pack)}."] if view.pack else []),
            f"Players: {' '.join(view.rules.players)}.",
            potions_in_words(view.rules) if role is Role.WITCH else _TASKS[role],
            rules_in_words(view.rules),
        )
    )


def rules_in_words(rules: Rules) -> str:
    """Return what all players are told of the rules."""
    counts = {role: rules.roles.count(role) for role in Role}
    cast = ", ".join(f"{count} {role}" for role, count in counts.items() if count)
    tie = {
        Tie.RANDOM: "a tie is broken at random",
        Tie.NONE: "in a tie nobody dies",
        Tie.REVOTE: "a tie is voted on again",
    }[rules.tie]
    goal = "are half of the living" if rules.parity else "alone are alive"
    return f"Roles: {cast}. Wolves win when they {goal}. In votes {tie}."


def potions_in_words(rules: Rules) -> str:
    """Return what the witch is told of her potions."""
    both = "" if rules.witch_may_use_both else ", not both in one night"
    whom = "" if rules.witch_may_heal_self else ", but not yourself"
    return f"Once you can heal the victim of the night{whom}, and once poison a player{both}."


class Transcript:
    """Writes one player's user messages, each with what was not told before."""

    def __init__(self) -> None:
        """Begin before the first message."""
        self._told = 0

    def message(self, view: View, request: Request) -> str:
        """Return the user message that asks for an answer to ``request``."""
        new = view.events[self._told :]
        self._told = len(view.events)
        lines = [line for event in new if (line := _line(event, player=view.player))]
        return "\n".join((*lines, question(request)))


def question(request: Request) -> str:
    """Return the question, with those who may be named."""
    words = _QUESTIONS[request.ask]
    if request.ask.is_speech:
        return words
    names = [*request.targets, *([NOBODY] if request.may_pass else [])]
    return f"{words} One of: {' '.join(names)}."


def read(request: Request, reply: str) -> Answer:
    r"""Return what a reply says; None if no choice can be read from it.

    A choice is the one name in the last line that has any, in letters of either case; with several
    names it is ambiguous.
    Whether the rules allow it is the engine's business.

    Example: ``"Ben is odd.\nI vote for Cleo."`` chooses Cleo, ``"Ben or Cleo"`` nobody at all.
    """
    if request.ask.is_speech:
        return Speech(reply)
    for line in reversed(reply.splitlines()):
        names = {name.capitalize() for name in _NAME.findall(line)}
        if len(names) == 1:
            (name,) = names
            return Choice(None if name == NOBODY.capitalize() else name)
        if names:
            return None
    return None


def write(answer: Answer) -> str:
    """Return a reply that says ``answer``: the inverse of :func:`read`."""
    if isinstance(answer, Speech):
        return answer.text
    return "" if answer is None else answer.target or NOBODY


def _line(event: Event, *, player: str) -> str:
    """Return what a player is told of an event; nothing if it knows it anyway."""
    if event.kind in _OWN and event.player == player:
        return ""
    return _LINES.get(event.kind, "").format(
        round=event.round,
        player=event.player,
        target=event.target or NOBODY,
        text=event.text,
        verdict="werewolf" if event.text == Side.WOLVES else "village",
    )


def _with_article(role: Role) -> str:
    return f"the {role}" if role in (Role.SEER, Role.WITCH, Role.HUNTER) else f"a {role}"
