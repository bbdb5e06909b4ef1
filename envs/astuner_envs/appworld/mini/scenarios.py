"""What is asked for in the mini world, how it is checked, and how an expert does it.

A scenario is a kind of request with persons, words and numbers drawn from its seed; its three
variants differ in what was drawn. Each variant says which records exist beforehand, which code
solves it, and which checks hold it. Checks are of two kinds: a required one fails as long as
nothing was done, one of no harm passes until something else was changed.

Every check is a Python expression over ``end``, the models by app in the later state, the ids that
``start_ids`` gives of the earlier one, and ``answer``. They are put together by
:mod:`astuner_envs.appworld.mini.evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final, TypeAlias

from astuner_envs.appworld.mini.people import PEOPLE, Person

Value: TypeAlias = str | int | float | bool | None
VARIANTS: Final = 3
NO_ANSWER: Final = None


@dataclass(frozen=True, slots=True)
class Record:
    """A row that exists before the agent begins."""

    app: str
    model: str
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold in the end."""

    requirement: str
    """In words."""
    expression: str
    """Python, true where it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One task: who asks for what, and what comes of it."""

    person: Person
    instruction: str
    apps: tuple[str, ...]
    """That must be used, beside the supervisor's."""
    records: tuple[Record, ...] = ()
    turns: tuple[str, ...]
    """The expert's code, one piece for each execution."""
    outputs: tuple[str, ...]
    """What each piece but the last leads to."""
    slips: tuple[tuple[str, str], ...]
    """Words of the last piece, and what one who errs writes instead."""
    checks: tuple[Check, ...]
    """Required."""
    changes: tuple[str, ...] = ()
    """Models that may change, ``app.Model``."""
    answer: Value = NO_ANSWER


@dataclass(frozen=True, slots=True)
class Draw:
    """What a variant's words and numbers are drawn from."""

    rng: Random
    person: Person
    others: tuple[Person, ...] = field(default=())

    def one(self, *choices: str) -> str:
        """Draw one of them."""
        return choices[int(self.rng.random() * len(choices))]

    def two(self, *choices: str) -> tuple[str, str]:
        """Draw two that differ."""
        first, second = self.rng.sample(choices, 2)
        return first, second

    def ids(self) -> tuple[int, int]:
        """Draw two ids of records that differ."""
        first, second = self.rng.sample(range(2, 100), 2)
        return first, second

    def number(self, low: int, high: int) -> int:
        """Draw a whole number from ``low`` to ``high``."""
        return low + int(self.rng.random() * (high - low + 1))


Template: TypeAlias = Callable[[Draw], Variant]

_LABELS: Final = ("gym", "tea", "walk", "bus", "pills", "train", "lunch", "call")
_TITLES: Final = ("garage", "locker", "wifi", "cellar", "bike", "gate", "safe", "attic")
_PROJECTS: Final = ("home", "work", "garden", "travel", "party", "school")
_CHORES: Final = (
    "buy milk", "fix door", "water plants", "book hotel", "pay rent", "wash car", "send letter",
    "clean oven", "pack bags", "print form",
)  # fmt: skip
_NUMBERS: Final = tuple(str(number) for number in range(10, 100, 5))
"""What notes hold and friends are paid: few, so that each occurs often among demonstrations."""
_REASONS: Final = ("lunch", "tickets", "taxi", "dinner", "books", "coffee")


def login(app: str, person: Person) -> str:
    """Code that logs into an app; later turns use ``token``."""
    return (
        'passwords = {a["account_name"]: a["password"] '
        "for a in apis.supervisor.show_account_passwords()}\n"
        f'token = apis.{app}.login(username="{person.username(app)}", '
        f'password=passwords["{app}"])["access_token"]'
    )


_LOGGED_IN: Final = ("Execution successful.",)
_DONE: Final = "apis.supervisor.complete_task()"


def _alarm(draw: Draw, id_: int, label: str, time: str) -> Record:
    return Record(
        "phone",
        "Alarm",
        {"id": id_, "user_id": draw.person.id, "time": time, "label": label, "enabled": True},
    )


def _time(draw: Draw) -> str:
    return f"{draw.number(5, 22):02d}:{5 * draw.number(0, 11):02d}"


def _other_time(time: str) -> str:
    return f"{(int(time[:2]) + 1) % 24:02d}{time[2:]}"


def alarmset(draw: Draw) -> Variant:
    """Set an alarm."""
    label, other = draw.two(*_LABELS)
    time = _time(draw)
    new = "[a for a in end.phone.Alarm.all() if a.id not in start_ids('phone.Alarm')]"
    return Variant(
        person=draw.person,
        instruction=f"Set an alarm for {time} with the label {label}.",
        apps=("phone",),
        records=(_alarm(draw, draw.ids()[0], other, _other_time(time)),),
        turns=(
            login("phone", draw.person),
            f'apis.phone.create_alarm(access_token=token, time="{time}", label="{label}")\n{_DONE}',
        ),
        outputs=_LOGGED_IN,
        slips=((f'time="{time}"', f'time="{_other_time(time)}"'), (label, other)),
        checks=(
            Check("one alarm is new", f"len({new}) == 1"),
            Check("its time is as asked", f"[a.time for a in {new}] == [{time!r}]"),
            Check("its label is as asked", f"[a.label for a in {new}] == [{label!r}]"),
        ),
        changes=("phone.Alarm",),
    )


def alarmoff(draw: Draw) -> Variant:
    """Switch an alarm off."""
    label, other = draw.two(*_LABELS)
    wanted, decoy = draw.ids()
    names = {wanted: label, decoy: other}
    first, second = draw.rng.sample((wanted, decoy), 2)  # in the order of their times
    mine = f"a.user_id == {draw.person.id}"
    off = f"[a.label for a in end.phone.Alarm.all() if not a.enabled and {mine}]"
    return Variant(
        person=draw.person,
        instruction=f"Switch off my alarm with the label {label}.",
        apps=("phone",),
        records=(
            _alarm(draw, first, names[first], "06:15"),
            _alarm(draw, second, names[second], "07:40"),
        ),
        turns=(
            login("phone", draw.person),
            "for a in apis.phone.show_alarms(access_token=token):"
            f'\n    if a["label"] == "{label}":'
            '\n        apis.phone.update_alarm(access_token=token, alarm_id=a["alarm_id"], '
            f"enabled=False)\n{_DONE}",
        ),
        outputs=_LOGGED_IN,
        slips=((f'"{label}"', f'"{other}"'),),
        checks=(
            Check("an alarm is off", f"len({off}) > 0"),
            Check("it is the one that was named", f"{off} == [{label!r}]"),
        ),
        changes=("phone.Alarm",),
    )


def _note(draw: Draw, id_: int, title: str, content: str) -> Record:
    written = f"2023-05-17T{10 + id_ // 60}:{id_ % 60:02d}:00"  # notes are listed by their times
    return Record(
        "simple_note",
        "Note",
        {
            "id": id_,
            "user_id": draw.person.id,
            "title": title,
            "content": content,
            "created_at": written,
            "updated_at": written,
        },
    )


def notenew(draw: Draw) -> Variant:
    """Write a note."""
    title, other = draw.two(*_TITLES)
    code, wrong = draw.two(*_NUMBERS)
    new = "[n for n in end.simple_note.Note.all() if n.id not in start_ids('simple_note.Note')]"
    return Variant(
        person=draw.person,
        instruction=f"Write a note with the title {title} and the content {code}.",
        apps=("simple_note",),
        turns=(
            login("simple_note", draw.person),
            f'apis.simple_note.create_note(access_token=token, title="{title}", '
            f'content="{code}")\n{_DONE}',
        ),
        outputs=_LOGGED_IN,
        slips=((f'content="{code}"', f'content="{wrong}"'), (title, other)),
        checks=(
            Check("one note is new", f"len({new}) == 1"),
            Check("its title is as asked", f"[n.title for n in {new}] == [{title!r}]"),
            Check("its content is as asked", f"[n.content for n in {new}] == [{code!r}]"),
        ),
        changes=("simple_note.Note",),
    )


def _print_note(title: str) -> str:
    return (
        "for n in apis.simple_note.search_notes(access_token=token):"
        f'\n    if n["title"] == "{title}":'
        "\n        print(apis.simple_note.show_note(access_token=token, "
        'note_id=n["note_id"])["content"])'
    )


def noteask(draw: Draw) -> Variant:
    """Tell what a note says."""
    title, other = draw.two(*_TITLES)
    wanted, decoy = draw.ids()
    code, false = draw.two(*_NUMBERS)
    return Variant(
        person=draw.person,
        instruction=f"Which number does my note {title} hold?",
        apps=("simple_note",),
        records=(_note(draw, decoy, other, false), _note(draw, wanted, title, code)),
        turns=(
            login("simple_note", draw.person),
            _print_note(title),
            f"apis.supervisor.complete_task(answer={code})",
        ),
        outputs=(*_LOGGED_IN, code),
        slips=((f"={code})", f"={false})"),),
        checks=(Check("the answer is what the note holds", f"text(answer) == {code!r}"),),
        answer=code,
    )


def _todo(
    draw: Draw, id_: int, project: str, titles: Mapping[int, str] = MappingProxyType({})
) -> tuple[Record, ...]:
    return (
        Record("todoist", "Project", {"id": 100 + id_, "user_id": draw.person.id, "name": project}),
        Record(
            "todoist",
            "ProjectCollaboratorLink",
            {"id": 100 + id_, "project_id": 100 + id_, "user_id": draw.person.id},
        ),
        *(
            Record(
                "todoist",
                "Task",
                {
                    "id": task,
                    "project_id": 100 + id_,
                    "user_id": draw.person.id,
                    "title": title,
                    "priority": "medium",
                    "order_index": index,
                },
            )
            for index, (task, title) in enumerate(sorted(titles.items(), reverse=True))
        ),
    )


def _add_to_project(title: str, project: str) -> str:
    return (
        "for p in apis.todoist.show_projects(access_token=token):"
        f'\n    if p["name"] == "{project}":'
        "\n        apis.todoist.create_task(access_token=token, "
        f'project_id=p["project_id"], title="{title}")\n{_DONE}'
    )


def todoadd(draw: Draw) -> Variant:
    """Add a task to a list."""
    project = draw.one(*_PROJECTS)
    title, other = draw.two(*_CHORES)
    wanted, _ = draw.ids()
    wrong = draw.one(*(name for name in _PROJECTS if name != project))
    new = "[t for t in end.todoist.Task.all() if t.id not in start_ids('todoist.Task')]"
    return Variant(
        person=draw.person,
        instruction=f"Add the task {title} to my project {project}.",
        apps=("todoist",),
        records=_todo(draw, wanted, project),
        turns=(
            login("todoist", draw.person),
            _add_to_project(title, project),
        ),
        outputs=_LOGGED_IN,
        slips=((f'"{title}"', f'"{other}"'), (f'"{project}"', f'"{wrong}"')),
        checks=(
            Check("one task is new", f"len({new}) == 1"),
            Check("its title is as asked", f"[t.title for t in {new}] == [{title!r}]"),
            Check(
                "it is in the project",
                f"[end.todoist.Project.by_id(t.project_id).name for t in {new}] == [{project!r}]",
            ),
        ),
        changes=("todoist.Task",),
    )


def tododone(draw: Draw) -> Variant:
    """Mark a task as completed."""
    project = draw.one(*_PROJECTS)
    title, other = draw.two(*_CHORES)
    wanted, decoy = draw.ids()
    done = "[t.title for t in end.todoist.Task.all() if t.is_completed]"
    return Variant(
        person=draw.person,
        instruction=f"Mark {title} of my project {project} as completed.",
        apps=("todoist",),
        records=_todo(draw, decoy, project, {decoy: other, wanted: title}),
        turns=(
            login("todoist", draw.person),
            "for p in apis.todoist.show_projects(access_token=token):"
            "\n    for t in apis.todoist.show_tasks(access_token=token, "
            'project_id=p["project_id"])["no_section_tasks"]:'
            f'\n        if t["title"] == "{title}":'
            '\n            apis.todoist.update_task(access_token=token, task_id=t["task_id"], '
            f"is_completed=True)\n{_DONE}",
        ),
        outputs=_LOGGED_IN,
        slips=((f'"{title}"', f'"{other}"'),),
        checks=(
            Check("a task is completed", f"len({done}) > 0"),
            Check("it is the one that was named", f"{done} == [{title!r}]"),
        ),
        changes=("todoist.Task",),
    )


_SENT: Final = (
    "[t for t in end.venmo.Transaction.all() if t.id not in start_ids('venmo.Transaction')]"
)


def payfriend(draw: Draw) -> Variant:
    """Send money."""
    friend, other = draw.others[:2]
    amount, wrong = draw.two(*_NUMBERS)
    reason = draw.one(*_REASONS)
    return Variant(
        person=draw.person,
        instruction=f"Send {amount} dollars to {friend.email} on venmo for {reason}.",
        apps=("venmo",),
        turns=(
            login("venmo", draw.person),
            f'apis.venmo.create_transaction(access_token=token, receiver_email="{friend.email}", '
            f'amount={amount}, description="{reason}")\n{_DONE}',
        ),
        outputs=_LOGGED_IN,
        slips=((f"amount={amount},", f"amount={wrong},"), (friend.email, other.email)),
        checks=(
            Check("one payment is new", f"len({_SENT}) == 1"),
            Check(
                "it went to the right person",
                f"[t.receiver_id for t in {_SENT}] == [{friend.id}]",
            ),
            Check("its amount is as asked", f"[t.amount for t in {_SENT}] == [{amount}]"),
            Check("it says what for", f"[t.description for t in {_SENT}] == [{reason!r}]"),
        ),
        changes=("venmo.Transaction", "venmo.User", "venmo.Notification"),
    )


def payrequest(draw: Draw) -> Variant:
    """Approve a request for money."""
    friend, other = draw.others[:2]
    wanted, decoy = draw.ids()

    def request(id_: int, sender: Person, amount: int) -> Record:
        return Record(
            "venmo",
            "PaymentRequest",
            {
                "id": id_,
                "sender_id": sender.id,
                "receiver_id": draw.person.id,
                "amount": amount,
            },
        )

    approved = "[r.sender_id for r in end.venmo.PaymentRequest.all() if r.approved_at]"
    return Variant(
        person=draw.person,
        instruction=f"Approve the payment request of {friend.first_name} on venmo.",
        apps=("venmo",),
        records=(
            request(decoy, other, draw.number(5, 45)),
            request(wanted, friend, draw.number(46, 95)),
        ),
        turns=(
            login("venmo", draw.person),
            "for r in apis.venmo.show_received_payment_requests(access_token=token):"
            f'\n    if "{friend.first_name}" in r["sender"]["name"]:'
            "\n        apis.venmo.approve_payment_request(access_token=token, "
            f'payment_request_id=r["payment_request_id"])\n{_DONE}',
        ),
        outputs=_LOGGED_IN,
        slips=((f'"{friend.first_name}"', f'"{other.first_name}"'),),
        checks=(
            Check("a request is approved", f"len({approved}) > 0"),
            Check("it is that person's", f"{approved} == [{friend.id}]"),
        ),
        changes=(
            "venmo.PaymentRequest", "venmo.Transaction", "venmo.User", "venmo.Notification",
        ),
    )  # fmt: skip


def alarmdrop(draw: Draw) -> Variant:
    """Delete an alarm."""
    label, other = draw.two(*_LABELS)
    wanted, decoy = draw.ids()
    names = {wanted: label, decoy: other}
    first, second = draw.rng.sample((wanted, decoy), 2)  # in the order of their times
    kept = f"[a.label for a in end.phone.Alarm.all() if a.user_id == {draw.person.id}]"
    return Variant(
        person=draw.person,
        instruction=f"Delete my alarm with the label {label}.",
        apps=("phone",),
        records=(
            _alarm(draw, first, names[first], "06:15"),
            _alarm(draw, second, names[second], "07:40"),
        ),
        turns=(
            login("phone", draw.person),
            "for a in apis.phone.show_alarms(access_token=token):"
            f'\n    if a["label"] == "{label}":'
            '\n        apis.phone.delete_alarm(access_token=token, alarm_id=a["alarm_id"])'
            f"\n{_DONE}",
        ),
        outputs=_LOGGED_IN,
        slips=((f'"{label}"', f'"{other}"'),),
        checks=(
            Check("one alarm is gone", f"len({kept}) == 1"),
            Check("it is the one that was named", f"{kept} == [{other!r}]"),
        ),
        changes=("phone.Alarm",),
    )


def notetodo(draw: Draw) -> Variant:
    """Put into a list what a note says: two apps."""
    project = draw.one(*_PROJECTS)
    title = draw.one(*_TITLES)
    chore, other = draw.two(*_CHORES)
    wanted, decoy = draw.ids()
    new = "[t for t in end.todoist.Task.all() if t.id not in start_ids('todoist.Task')]"
    return Variant(
        person=draw.person,
        instruction=f"Add the task that my note {title} holds to my project {project}.",
        apps=("simple_note", "todoist"),
        records=(_note(draw, decoy, title, chore), *_todo(draw, wanted, project)),
        turns=(
            login("simple_note", draw.person),
            _print_note(title),
            login("todoist", draw.person),
            _add_to_project(chore, project),
        ),
        outputs=(*_LOGGED_IN, chore, *_LOGGED_IN),
        slips=((f'"{chore}"', f'"{other}"'),),
        checks=(
            Check("one task is new", f"len({new}) == 1"),
            Check("its title is what the note holds", f"[t.title for t in {new}] == [{chore!r}]"),
            Check(
                "it is in the project",
                f"[end.todoist.Project.by_id(t.project_id).name for t in {new}] == [{project!r}]",
            ),
        ),
        changes=("todoist.Task",),
    )


TRAINED: Final[Mapping[str, Template]] = {
    template.__name__: template
    for template in (
        alarmset, alarmoff, notenew, noteask, todoadd, tododone, payfriend, payrequest,
    )
}  # fmt: skip
"""Kinds of request that training shows."""
UNSEEN: Final[Mapping[str, Template]] = {
    template.__name__: template for template in (alarmdrop, notetodo)
}
"""Kinds that it never shows."""


def variants(name: str, template: Template, *, scenario: int) -> tuple[Variant, ...]:
    """Return the variants of scenario number ``scenario`` of a kind, all of one person."""
    rng = Random(f"appworld/{name}/{scenario}")
    person, *others = rng.sample(PEOPLE, len(PEOPLE))
    return tuple(
        template(Draw(Random(f"appworld/{name}/{scenario}/{number}"), person, tuple(others)))
        for number in range(1, VARIANTS + 1)
    )
