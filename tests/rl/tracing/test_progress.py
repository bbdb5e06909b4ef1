"""Progress is one line in place on a terminal, and a plain line now and then elsewhere."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from astuner_rl.tracing.progress import Progress


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def plain(output: StringIO) -> Console:
    return Console(file=output, force_terminal=False, width=80)


def test_a_line_shows_the_figures_there_are() -> None:
    output, clock = StringIO(), Clock()
    with Progress(first_step=10, last_step=100, console=plain(output), now=clock) as progress:
        clock.seconds += 8
        metrics = {"reward/mean": 0.4375, "eval/accuracy": 0.6123, "time/step_s": 4.0}
        progress.update(12, {**metrics, "tokens/sampled": 7320})
    # 2 steps in 8 s, so the 88 left take 352 s.
    assert output.getvalue() == (
        "step 12/100  reward 0.438  accuracy 61.2%  1,830 tok/s  left 0:05:52\n"
    )


def test_plain_lines_come_seconds_apart_and_the_last_one_always() -> None:
    output, clock = StringIO(), Clock()
    with Progress(first_step=0, last_step=9, console=plain(output), now=clock) as progress:
        for step in range(10):
            progress.update(step, {})
            clock.seconds += 2
    steps = [line.split()[1] for line in output.getvalue().splitlines()]
    assert steps == ["0/9", "3/9", "6/9", "9/9"]


def test_the_accuracy_stays_until_the_next_evaluation() -> None:
    output, clock = StringIO(), Clock()
    with Progress(first_step=0, last_step=9, console=plain(output), now=clock) as progress:
        progress.update(0, {"eval/accuracy": 0.25})
        clock.seconds += 10
        progress.update(1, {"reward/mean": 1.0})
    assert output.getvalue().splitlines()[1] == (
        "step 1/9  reward 1.000  accuracy 25.0%  left 0:01:20"
    )


def test_a_terminal_line_is_changed_in_place() -> None:
    output, clock = StringIO(), Clock()
    console = Console(file=output, force_terminal=True, width=80)
    with Progress(first_step=0, last_step=2, console=console, now=clock) as progress:
        for step in range(3):
            progress.update(step, {})
    text = output.getvalue()
    assert "step 0/2" in text
    assert "step 2/2" in text
    assert text.count("\n") == 1, "the cursor never leaves the line until the end"
