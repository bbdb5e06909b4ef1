"""From whole dialogues to rows: one for each of the person's turns.

A turn is all that a person says before the other speaks again. Each row has the whole history up to
the end of its turn. The person's last turn gives the one row that says ``stop``; what the other
says after it gives none. A row that says ``continue`` and whose later turns tell nothing ("Yes.",
"Okay, thanks.") is left out: no question could have been a good one.

Example, with u for the person and a for the other: ``u1 a1 u2 u3 a2 u4 a3`` gives the histories
``u1``, ``u1 a1 u2 u3`` and ``u1 a1 u2 u3 a2 u4``; the last says ``stop``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from astuner_envs.learn_to_ask.records import Decision, Message, Row, Session, Speaker

_WORDS_THAT_TELL_NOTHING = frozenset(
    re.findall(
        r"\S+",
        """
        a absolutely afternoon ah ahead all alright am and are both bye cool correct course
        definitely do doctor exactly fine for glad go good goodness great have hello hi hm hmm i
        indeed is it just know ma'am me mhm mm morning much my nah neither never nice no none nope
        not nothing of oh ok okay okey pardon please problem really right see sir so sorry sounds
        sure thank thankfully thanks that that's the then there thing think to too uh uhm um
        understand very well yeah yep yes yessir you your
        """,
    )
)


def tells_something(text: str) -> bool:
    """Return whether a turn holds any word that is more than assent, thanks or filling."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())
    return any(word not in _WORDS_THAT_TELL_NOTHING for word in words)


def verbatim(later: Sequence[str]) -> str:
    """Return the person's later messages that tell anything, word for word, a line each."""
    return "\n".join(text for text in later if tells_something(text))


def rows(session: Session) -> Iterator[Row]:
    """Yield a session's rows, in the order of its turns."""
    for number, end in enumerate(turn_ends(session.messages)):
        later = said_later(session.messages, end)
        info = verbatim(later)
        if later and not info:
            continue
        yield Row(
            id=f"{session.id}_{number}",
            session_id=session.id,
            topic=session.topic,
            history=session.messages[:end],
            decision=Decision.CONTINUE if later else Decision.STOP,
            info=info,
        )


def turn_ends(messages: Sequence[Message]) -> list[int]:
    """Return for each turn of the person's how many messages there are up to its end."""
    return [
        position + 1
        for position, message in enumerate(messages)
        if message.speaker is Speaker.PERSON
        and (position + 1 == len(messages) or messages[position + 1].speaker is not Speaker.PERSON)
    ]


def said_later(messages: Sequence[Message], end: int) -> list[str]:
    """Return the texts of the person's messages from position ``end`` on."""
    return [message.text for message in messages[end:] if message.speaker is Speaker.PERSON]
