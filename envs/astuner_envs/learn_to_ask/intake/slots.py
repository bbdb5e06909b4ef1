"""What a clerk wants to know, what people say to it, and what follows from what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One thing that may be true of a slot."""

    name: str
    said: tuple[str, ...]
    """Paraphrases, each a sentence that can be said unasked."""
    leads_to: tuple[str, ...] = ()
    """Slots that matter only because of this value."""
    waives: tuple[str, ...] = ()
    """Slots that no longer matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Something to ask for."""

    name: str
    questions: tuple[str, ...]
    """The plain one, with choices, first; then other ways to ask."""
    words: tuple[str, ...]
    """By which a table of slots believes that it has been told."""
    values: tuple[Value, ...]


def _value(
    name: str, *said: str, leads_to: tuple[str, ...] = (), waives: tuple[str, ...] = ()
) -> Value:
    return Value(name=name, said=said, leads_to=leads_to, waives=waives)


_ALL: Final = (
    Slot(
        name="age",
        questions=(
            "How old is it: a few months, a few years or more?",
            "When did you buy it?",
            "Is it a new one, or have you owned it for some time?",
        ),
        words=("old", "new", "bought"),
        values=(
            _value(
                "new",
                "It is brand new.",
                "We bought it only in spring.",
                "It came out of the shop the other day.",
                leads_to=("receipt",),
                waives=("change",),
            ),
            _value(
                "some years",
                "It is about four years old.",
                "I bought it when my son went to school.",
                "It has been in the house for three winters.",
            ),
            _value(
                "ancient",
                "It is older than my daughter.",
                "We got it second-hand, and it was worn even then.",
                "It must be twenty years old.",
                waives=("receipt",),
            ),
        ),
    ),
    Slot(
        name="onset",
        questions=(
            "Since when does it do that: today, this week or longer?",
            "When did it start?",
            "How long has this been going on?",
        ),
        words=("since", "started", "began"),
        values=(
            _value(
                "today",
                "It began this morning.",
                "Yesterday all was well with it.",
                "It happened for the first time at lunch.",
                waives=("often",),
            ),
            _value(
                "days",
                "It started on Monday.",
                "It has been like that for some days.",
                "I noticed it first at the weekend.",
            ),
            _value(
                "weeks",
                "It has been like that for weeks.",
                "It started in the summer.",
                "We have put up with it since Easter.",
            ),
        ),
    ),
    Slot(
        name="often",
        questions=(
            "How often does it happen: always, every day or now and then?",
            "Does it do that every time?",
            "Is it like that all the time, or does it come and go?",
        ),
        words=("often", "always", "time"),
        values=(
            _value(
                "always",
                "It does that all the time.",
                "It fails whenever I touch it.",
                "There is never a moment without it.",
            ),
            _value(
                "daily",
                "It happens once or twice a day.",
                "Every evening it does it again.",
                "It comes back about daily.",
            ),
            _value(
                "rarely",
                "It only does that now and then.",
                "It comes and goes.",
                "Mostly it works, then it fails again.",
            ),
        ),
    ),
    Slot(
        name="sign",
        questions=(
            "What does the display show: a code, a red light or nothing?",
            "Is there any light on it?",
            "Can you see anything on the screen?",
        ),
        words=("display", "light", "screen"),
        values=(
            _value(
                "code",
                "The display shows some error.",
                "Letters flash on the screen.",
                "It displays a code.",
                leads_to=("code",),
            ),
            _value(
                "red",
                "A red light is on.",
                "It blinks red.",
                "There is a small red lamp glowing.",
                leads_to=("smell",),
            ),
            _value(
                "dark",
                "The display stays dark.",
                "No light comes on.",
                "The screen is black.",
                leads_to=("fuse",),
            ),
        ),
    ),
    Slot(
        name="noise",
        questions=(
            "What do you hear: a hum, a rattle or nothing?",
            "Does it make any noise?",
            "What does it sound like?",
        ),
        words=("hear", "noise", "sound"),
        values=(
            _value("hum", "It hums.", "It buzzes like a bee.", "I hear a deep hum."),
            _value(
                "rattle",
                "It rattles.",
                "Something clatters inside.",
                "It makes a grinding noise.",
                leads_to=("fall",),
            ),
            _value("silent", "It is silent.", "It makes no sound.", "I cannot hear anything."),
        ),
    ),
    Slot(
        name="place",
        questions=(
            "Where is it: in the kitchen, in the cellar or upstairs?",
            "Which room is it in?",
            "Where does it stand?",
        ),
        words=("kitchen", "cellar", "room"),
        values=(
            _value(
                "kitchen",
                "It is in the kitchen.",
                "It stands beside the sink.",
                "We keep it where we cook.",
            ),
            _value(
                "cellar",
                "It is in the cellar.",
                "We keep it in the basement.",
                "It stands below the house.",
                leads_to=("damp",),
            ),
            _value(
                "upstairs",
                "It is upstairs.",
                "It stands in the attic.",
                "We keep it on the third floor.",
                leads_to=("lift",),
            ),
        ),
    ),
    Slot(
        name="tried",
        questions=(
            "What have you tried: a restart, new parts or nothing?",
            "Have you done anything about it?",
            "What did you try so far?",
        ),
        words=("tried", "restart", "plug"),
        values=(
            _value(
                "restart",
                "I have switched it off and on.",
                "I pulled the plug and waited.",
                "A restart did not help.",
            ),
            _value(
                "parts",
                "I have replaced the filter.",
                "My son put new parts in.",
                "We have cleaned it inside.",
                leads_to=("fall",),
            ),
            _value(
                "nothing",
                "I have not tried anything.",
                "I did not dare to open it.",
                "Nobody has touched it.",
            ),
        ),
    ),
    Slot(
        name="change",
        questions=(
            "What changed before: a move, a storm or nothing?",
            "Did anything happen before that?",
            "Was anything changed in the house?",
        ),
        words=("changed", "moved", "storm"),
        values=(
            _value(
                "move",
                "We had moved house.",
                "It came here with the movers.",
                "We had changed flats.",
                leads_to=("fall",),
            ),
            _value(
                "storm",
                "There had been a storm.",
                "Lightning had struck nearby.",
                "We had a power cut before.",
                leads_to=("fuse",),
            ),
            _value(
                "nothing",
                "Nothing had changed before.",
                "No change that I know of.",
                "All was as usual before.",
            ),
        ),
    ),
    Slot(
        name="home",
        questions=(
            "When are you at home: mornings, evenings or at weekends?",
            "When can somebody come?",
            "Which day would suit you?",
        ),
        words=("home", "come", "suit"),
        values=(
            _value(
                "mornings",
                "I am at home before noon.",
                "Come by before ten.",
                "Mornings suit me.",
            ),
            _value(
                "evenings",
                "I am at home after work.",
                "Come by after six.",
                "Evenings suit me.",
            ),
            _value(
                "saturday",
                "I am only at home on Saturday.",
                "Come by on Saturday.",
                "Weekends suit me.",
            ),
        ),
    ),
    Slot(
        name="urgent",
        questions=(
            "How urgent is it: today, this week or no hurry?",
            "How soon do you need it?",
            "Is there any hurry?",
        ),
        words=("urgent", "hurry", "soon"),
        values=(
            _value(
                "today",
                "It is urgent.",
                "I need it back at once.",
                "We cannot do without it.",
                leads_to=("phone",),
            ),
            _value("week", "This week would be soon enough.", "I need it back by Friday."),
            _value("no", "There is no hurry.", "It can wait.", "Take your time, no rush."),
        ),
    ),
    Slot(
        name="code",
        questions=("Which code is it: E1, E2 or E3?", "What exactly is the code?"),
        words=("code",),
        values=(
            _value("one", "It says E1.", "An E and a one."),
            _value("two", "It says E2.", "An E and a two."),
            _value("three", "It says E3.", "An E and a three."),
        ),
    ),
    Slot(
        name="smell",
        questions=("What does it smell of: smoke, gas or nothing?", "Can you smell anything?"),
        words=("smell",),
        values=(
            _value("smoke", "It smells of smoke.", "There is a burnt smell.", waives=("urgent",)),
            _value("gas", "It smells of gas.", "I can smell gas.", waives=("urgent",)),
            _value("nothing", "It smells of nothing.", "There is no smell."),
        ),
    ),
    Slot(
        name="fuse",
        questions=("Is the fuse on: yes, no or unsure?", "Have you looked at the fuse box?"),
        words=("fuse",),
        values=(
            _value("on", "The fuses are all on.", "Every fuse is fine."),
            _value("off", "One fuse was out.", "The breaker had tripped."),
        ),
    ),
    Slot(
        name="fall",
        questions=("Did it fall: hard, lightly or never?", "Was it bumped or dropped?"),
        words=("fall", "dropped"),
        values=(
            _value("hard", "It fell down the steps.", "Somebody dropped it."),
            _value("never", "It never fell.", "It was not dropped or bumped."),
        ),
    ),
    Slot(
        name="damp",
        questions=("Is it damp there: wet, a little or dry?", "Is there any water on the floor?"),
        words=("damp", "water"),
        values=(
            _value("wet", "There is a puddle under it.", "The walls are damp."),
            _value("dry", "It is dry down there.", "There is no water anywhere."),
        ),
    ),
    Slot(
        name="lift",
        questions=("Is there a lift: a large one, a small one or none?", "Do we have to carry it?"),
        words=("lift",),
        values=(
            _value("lift", "There is a lift.", "The lift is large enough."),
            _value("stairs", "There are only stairs.", "It has to be carried."),
        ),
    ),
    Slot(
        name="receipt",
        questions=(
            "Do you have the receipt: on paper, by mail or not?",
            "Can you show a receipt?",
        ),
        words=("receipt",),
        values=(
            _value("yes", "I have kept the receipt.", "The receipt is in my mail."),
            _value("no", "The receipt is lost.", "I threw the receipt away."),
        ),
    ),
    Slot(
        name="phone",
        questions=(
            "How do we reach you: by phone, by mail or at the door?",
            "What is your number?",
        ),
        words=("phone", "number"),
        values=(
            _value("phone", "You can phone me.", "My number is on the card."),
            _value("mail", "A mail reaches me best.", "Just ring the bell, I have no phone."),
        ),
    ),
)

SLOTS: Final = {slot.name: slot for slot in _ALL}
"""By name."""
