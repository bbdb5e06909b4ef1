"""Aspects: what a question asks for, and what a sentence tells, by the words in it.

An aspect is a kind of information, such as when something began or which medicine is taken. Its
name stands for the same kind on both sides, so a question is answered by a sentence that shares an
aspect with it. Aspects of *form* come from how a question is put (how long, how often, where);
aspects of *subject* from what it is about. A question that has one of form asks for that: "How long
have you had the cough?" wants a time, and the sentence "I cough at night" does not give it.

Sentences about other people's things tell nothing, unless they are about relatives: those tell of
the family.

The words are plain English of repairs and of medical interviews. They are a rule, fast and the same
every time, and no understanding: see ``agreement.py`` for how far they agree with a reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Aspect:
    """A kind of information."""

    name: str
    asked: re.Pattern[str]
    told: re.Pattern[str]


def _aspect(name: str, asked: str, told: str) -> Aspect:
    return Aspect(name, *(re.compile(rf"\b(?:{cue})", re.IGNORECASE) for cue in (asked, told)))


_NUMBER: Final = r"(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|twenty|few|several)"
_UNIT: Final = r"(?:hour|day|week|month|year|night)s?"

FORM: Final = (
    _aspect(
        "age",
        r"how old|when did you (?:buy|get) (?:it|this|that)|new one|owned|how many years old|"
        r"bought",
        r"brand new|bought|out of the shop|years? old|months? old|older than|second-hand|"
        r"in the house for|owned|purchased",
    ),
    _aspect(
        "onset",
        r"since when|how long|for how many|did it (?:start|begin)|when (?:did|was|has|have|is|"
        r"were) (?!you (?:buy|get) (?:it|this))|"
        r"going on|how recently|what time did",
        r"since\b|start(?:ed|s)\b|began|begun|came on|first time|noticed|for (?:some|many|the last|"
        rf"the past|about|over|almost|nearly|around) .{{0,12}}{_UNIT}|for (?:a )?{_NUMBER} "
        rf"(?:or \w+ )?{_UNIT}|{_NUMBER} {_UNIT} (?:now|ago|by)|for weeks|for days|for months|"
        r"for years|yesterday|this morning|last night|sudden|just happened|long time ago",
    ),
    _aspect(
        "frequency",
        r"how often|how frequent|how many times|all the time|every time|every day|come and go|"
        r"always|constant|now and then|each time|(?:only|just) sometimes|regularly happen",
        r"all the time|whenever|never a moment|every (?:hour|day|night|morning|evening|few|other|"
        r"week|month)|(?:once|twice|times) (?:or \w+ )?an? (?:day|week|month|year|night)|daily|"
        r"weekly|now and then|once in a while|comes and goes|mostly it works|constant|occasional|"
        r"sometimes|rarely|hardly ever",
    ),
    _aspect(
        "place",
        r"where\b|(?:which|what) (?:room|floor|side|part|area|leg|arm|knee|foot|hand|ear|eye)|"
        r"point to|(?:move|spread|radiate|travel)s? anywhere|radiat|anywhere else",
        r"in the (?:kitchen|cellar|basement|attic|hall|bath)|beside the|where we cook|below the|"
        r"upstairs|downstairs|on the third floor|(?:right|left|lower|upper|middle|both) (?:side|"
        r"arm|leg|knee|foot|hand|hip|shoulder|back|ear|eye|ankle|wrist|sides|legs|knees)|"
        r"on (?:my|the) (?:right|left)|(?:up|down) my|radiat|behind (?:my|the)",
    ),
    _aspect(
        "severity",
        r"how (?:bad|severe|strong|intense|much does it hurt|painful)|scale (?:of|from)|"
        r"out of ten|mild|rate (?:the|your)|sharp|dull|burning|stabbing",
        r"out of (?:ten|10)|\d+/10|(?:it|say|about|maybe) an? (?:one|two|three|"
        r"four|five|six|seven|eight|nine|ten)\b|"
        r"burns?\b|burning|stabbing|mild|severe|terrible|awful|unbearable|worst|excruciating|"
        r"really bad|a dull|sharp|not too bad",
    ),
    _aspect(
        "amount",
        r"how (?:much (?!does it hurt)|high|loud|large|big|heavy|many (?!times|years|months|weeks|"
        r"days))",
        r"\d+ ?(?:mg|milligrams|pounds|degrees|units)|half a|an? (?:pack|glass|little|lot)\b",
    ),
    _aspect(
        "availability",
        r"when (?:are|will) you (?:be )?(?:at )?home|when can (?:somebody|someone|we|they|i) come|"
        r"which day|what time .{0,12}(?:suits?|visit|come)|when .{0,12}visit|day would suit|"
        r"when would it suit",
        r"(?:only )?at home (?:on|before|after|in)|come by|suits? me|am home|free on",
    ),
    _aspect(
        "urgency",
        r"how urgent|hurry|how soon|by when|urgently|(?:can|could) it wait|fixed today",
        r"urgent|hurry|no rush|need it back|cannot do without|can wait|soon enough|take your time",
    ),
)
SUBJECT: Final = (
    _aspect(
        "display",
        r"display|any light|screen|panel|lamp|lights? (?:on|up|show|blink)",
        r"display|red light|blinks?|red lamp|flash|no light|screen",
    ),
    _aspect(
        "code", r"(?:which|what|the) (?:\w+ )?code|error message|the message", r"e\d\b|an e and"
    ),
    _aspect(
        "noise",
        r"hear|noise|sound|loud",
        r"hums?\b|buzz|hear\b|rattl|clatter|grinding|silent|no sound|noise|squeak|click",
    ),
    _aspect("smell", r"smell|odou?r", r"smell|smoke smell|stink|odou?r"),
    _aspect("fuse", r"fuse|breaker", r"fuses?|breaker"),
    _aspect(
        "fall",
        r"fall\b|fell\b|bump|drop(?:ped)?\b|knock",
        r"fell|fallen|dropped|bumped|tripped over",
    ),
    _aspect("damp", r"damp|water|wet\b|leak", r"puddle|damp|dry down|no water|leak|wet\b"),
    _aspect("access", r"lift\b|carry|stairs|elevator", r"lift\b|stairs|carried|elevator"),
    _aspect("receipt", r"receipt|proof of purchase", r"receipt"),
    _aspect(
        "contact",
        r"reach you|your (?:phone )?number|contact you|hold of you",
        r"phone me|my number|reaches me|call me|bell\b",
    ),
    _aspect(
        "tried",
        r"tried|try\b|unplug|look(?:ed)? at it|repaired|done anything about|do about|restart|"
        r"helps?\b|make it better|done so far|"
        r"taking anything for|relie[fv]",
        r"switched it|pulled the plug|restart|replaced|new parts|cleaned|not tried|tried|"
        r"did not dare|touched it|(?<!can )helps?\b|helped|took some",
    ),
    _aspect(
        "change",
        r"changed?\b|happen(?:ed)? before|different (?:before|lately)|anything new|"
        r"what were you doing|anything happen|thunderstorm|power cut|move it",
        r"moved|movers|changed|storm|lightning|power cut|nothing had changed|no change|as usual|"
        r"i was (?:lifting|running|playing|working|carrying)",
    ),
    _aspect(
        "medicine",
        r"medic(?:ine|ation)s?|drugs you|prescri|pills?|tablets?|inhaler|insulin|taking any|dose",
        r"\d+ ?(?:mg|milligrams)|tablets?|pills?|medic(?:ine|ation)s?|take (?:an? )?(?:aspirin|"
        r"insulin|vitamins?)|aspirin|ibuprofen|tylenol|advil|insulin|inhaler|vitamin|prescri|"
        r"lisinopril|metformin|antibiotic",
    ),
    _aspect("allergy", r"allerg", r"allerg|hives|break out|reaction to"),
    _aspect(
        "family",
        r"family|relatives?|parents|mother|father|runs? in|siblings|brothers?|sisters?",
        r"my (?:\w+ )?(?:mother|father|mom|dad|brothers?|sisters?|grandmother|grandfather|uncle|"
        r"aunt|parents|grandparents|cousin)\b|family|(?:he|she) (?:had|has|died)",
    ),
    _aspect(
        "habits",
        r"smok|drink\b|alcohol|tobacco|cigarettes?|recreational|illicit",
        r"smok(?:er|ed|ing)|i .{0,20}smoke\b|drink\b|alcohol|beer|wine|cigarettes?|pack a day|"
        r"packs?\b|marijuana|tobacco|sober",
    ),
    _aspect(
        "work and home",
        r"(?:for )?a living|occupation|your job|work\b|live with|who do you live|married|children|"
        r"kids|retired|living situation",
        r"work(?:ed|s|ing)? (?:as|at|in|for)|i am an? \w+er\b|i (?:drive|teach|run) an?\b|"
        r"retired|married|divorced|widow|"
        r"live (?:with|alone|in)|wife|husband|kids|children|my job",
    ),
    _aspect(
        "past illness",
        r"medical (?:history|conditions?|problems?)|other (?:conditions?|illness|health)|"
        r"diagnosed|diabetes|blood pressure|heart (?:problems?|disease)|past (?:medical|illness)|"
        r"had (?:this|it) before",
        r"diabet|high blood pressure|hypertension|asthma|cholesterol|diagnos|cancer|arthritis|"
        r"stroke|heart (?:attack|disease|failure)|depression|copd|thyroid|epilepsy|migraines?",
    ),
    _aspect(
        "surgery",
        r"surger|operat(?:ed|ion)|procedures?",
        r"surger|operat(?:ed|ion)|removed|taken out|appendix|c-section|tonsils|bypass|stent",
    ),
    _aspect(
        "pain",
        r"pain|hurts?\b|ache|sore|tender",
        r"pain|hurts?\b|aches?|aching|sore\b|tender|throb|cramp|stiff",
    ),
    _aspect(
        "fever",
        r"fever|temperature|chills?|sweats?",
        r"fever|temperature|chills?|sweat|shiver|degrees",
    ),
    _aspect(
        "breathing",
        r"cough|breath|wheez|phlegm|sputum",
        r"cough|breath|wheez|phlegm|mucus|chest is tight|sputum",
    ),
    _aspect(
        "stomach",
        r"nausea|vomit|throw(?:ing|n)? up|diarrh|bowel|constipat|stomach|belly|appetite|eating",
        r"nause|vomit|thr[eo]w(?:ing|n)? up|diarrh|bowel|constipat|stomach|belly|appetite|"
        r"eat(?:ing)?\b|heartburn",
    ),
    _aspect("sleep", r"sleep|rest at night|insomnia", r"sle(?:ep|pt)|awake|wake up|insomnia|tired"),
    _aspect("weight", r"weight|gained|lost any", r"pounds|weight|kilos"),
)
_OTHERS: Final = re.compile(
    r"\bmy (?:neighbou?r|colleague|friend|boss|landlord)|\b(?:hers|his|theirs)\b"
    r"|\bmy (?:brother|sister|aunt|uncle|cousin)\b.*\b(?:one|hers|his|all day|hurry|everything)\b",
    re.IGNORECASE,
)
_FAMILY: Final = next(aspect for aspect in SUBJECT if aspect.name == "family")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")


def asked_form(question: str) -> frozenset[str]:
    """Return the aspects of form that a question asks for."""
    found = {aspect.name for aspect in FORM if aspect.asked.search(question)}
    if "availability" in found or "age" in found:
        # "When are you at home" asks for no beginning, nor does "when did you buy it".
        found -= {"onset"}
    return frozenset(found)


def asked_subject(question: str) -> frozenset[str]:
    """Return the aspects of subject that a question asks for."""
    return frozenset(aspect.name for aspect in SUBJECT if aspect.asked.search(question))


def own_sentences(text: str) -> list[str]:
    """Return the sentences that are not about other people's things."""
    return [sentence for sentence in _SENTENCE.split(text) if not _OTHERS.search(sentence)]


def told(text: str) -> frozenset[str]:
    """Return the aspects that a text tells, sentence by sentence."""
    found: set[str] = set()
    for sentence in own_sentences(text):
        if _FAMILY.told.search(sentence):
            found.add(_FAMILY.name)
            continue
        found.update(aspect.name for aspect in FORM + SUBJECT if aspect.told.search(sentence))
    return frozenset(found)
