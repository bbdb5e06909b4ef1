"""Writes a variant's checks as the evaluation that AppWorld's engine runs."""

from __future__ import annotations

from typing import Final, Literal, TypedDict

from astuner_envs.appworld.mini.scenarios import Variant

REQUIRED: Final = "no_op_fail"
NO_HARM: Final = "no_op_pass"
COMPLETED: Final = "all of this is so, and the task was marked as completed"
ONLY_ALLOWED: Final = "nothing else was changed"

_HEAD: Final = """\
import json


def evaluate(test, public_data, private_data, main_user, models, ground_truth_answer):
    (task,) = models.end.supervisor.Task.all()
    given = json.loads(task.answer)
    answer = None if given == "<<NOT_GIVEN>>" else given
    before = models.start
    ids = {
        model: {record.id for record in before[model.split(".")[0]][model.split(".")[1]].all()}
        for model in private_data["changes"]
    }

    def start_ids(model):
        return ids[model]

    def text(value):
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the API makes a whole number of an answer a fraction
        return "" if value is None else str(value).strip()

    end = models.end  # from here on models read the later state

"""


class TestDatum(TypedDict):
    """A line of ``test_data.json``."""

    requirement: str
    label: Literal["no_op_fail", "no_op_pass"]


def evaluation_source(variant: Variant) -> str:
    """Return the text of ``evaluation.py``."""
    lines = [_HEAD]
    for check in variant.checks:
        lines.append(_test(check.requirement, check.expression))
    every = " and ".join(f"({check.expression})" for check in variant.checks)
    lines.append(_test(COMPLETED, f"task.status == 'success' and {every}"))
    lines.append(
        _test(
            ONLY_ALLOWED,
            "models.changed_model_names() <= set(private_data['changes'])"
            + (" and answer is None" if variant.answer is None else ""),
        )
    )
    return "".join(lines)


def _test(requirement: str, expression: str) -> str:
    return (
        f"    with test({requirement!r}):\n        test.case(bool({expression}), 'is_truthy')\n\n"
    )


def labelled_requirements(variant: Variant) -> list[TestDatum]:
    """Return the requirements and which of them are required."""
    return [
        *(TestDatum(requirement=c.requirement, label="no_op_fail") for c in variant.checks),
        TestDatum(requirement=COMPLETED, label="no_op_fail"),
        TestDatum(requirement=ONLY_ALLOWED, label="no_op_pass"),
    ]
