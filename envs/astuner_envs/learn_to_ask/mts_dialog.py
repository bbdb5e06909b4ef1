"""MTS-Dialog (Ben Abacha et al., EACL 2023): doctor-patient dialogues in CSV, by path.

A row has ``ID, section_header, section_text, dialogue``; a dialogue has a line for each turn, which
begins with its speaker: ``Doctor: …``, ``Patient: …``, ``Guest_family: …``. Doctors and other
clinicians ask; everybody else is the person. A line without a speaker goes on with the one before.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

from astuner_envs.learn_to_ask.records import Message, Session, Speaker
from astuner_gym.errors import TaskDataError

COLUMNS: Final = ("ID", "section_header", "dialogue")
SPEAKERS: Final = "Doctor, Guest_clinician, Patient and Guest_family"
_TURN: Final = re.compile(r"\s*([A-Za-z]+(?:_[A-Za-z]+)?(?:_?\d+)?)\s*:\s*(.*)")
# With the misspellings of the files.
_CLINICIAN: Final = re.compile(r"(?:Doctor|Docotr)(?:_\d+)?|Guest_clinici?an(?:_?\d+)?")
_PERSON: Final = re.compile(r"Patient|(?:Guest|Gest)_family(?:_?\d+)?")


def read_mts_dialog(path: Path) -> list[Session]:
    """Return the dialogues of a file, in its order.

    Raises:
        TaskDataError: The file is absent, empty or not of this format; the message names it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
                raise TaskDataError(
                    f"{path}: a table of dialogues must have the columns {list(COLUMNS)}, "
                    f"it lacks {missing}"
                )
            sessions = [
                Session(
                    id=f"{path.stem}-{row['ID']}",
                    topic=row["section_header"] or "",
                    messages=read_dialogue(
                        row["dialogue"] or "", where=f"{path}: dialogue {row['ID']}"
                    ),
                )
                for row in table
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskDataError(f"{path}: dialogues must be a readable CSV file: {error}") from error
    if not sessions:
        raise TaskDataError(f"{path}: task data must hold at least one dialogue, it is empty")
    return sessions


def read_dialogue(text: str, *, where: str = "dialogue") -> tuple[Message, ...]:
    """Return the messages of a dialogue; empty ones are left out.

    Args:
        text: A line for each turn.
        where: File and dialogue, for messages.

    Raises:
        TaskDataError: The first line says nothing of who speaks.
    """
    messages: list[Message] = []
    for line in text.splitlines():
        speaker, said = _speaker(line)
        if speaker is None:
            if not messages:
                raise TaskDataError(
                    f"{where} must begin with its speaker, one of {SPEAKERS}, got {line[:60]!r}"
                )
            before = messages.pop()
            speaker, said = before.speaker, f"{before.text} {said}".strip()
        messages.append(Message(speaker, said))
    return tuple(message for message in messages if message.text)


def _speaker(line: str) -> tuple[Speaker | None, str]:
    if turn := _TURN.fullmatch(line):
        said = turn[2].strip()
        if _CLINICIAN.fullmatch(turn[1]):
            return Speaker.CLERK, said
        if _PERSON.fullmatch(turn[1]):
            return Speaker.PERSON, said
    return None, line.strip()
