"""Tasks: what a file must hold, and an order that a seed names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astuner_gym.errors import TaskDataError
from astuner_gym.task import (
    HubTasks,
    JsonlTasks,
    JsonValue,
    RecordTasks,
    Task,
    TaskSource,
    hold_out,
    task_indices,
)


def ids(source: TaskSource) -> list[str]:
    return [source[index].id for index in range(len(source))]


def numbered(count: int) -> RecordTasks:
    return RecordTasks("n", [{"number": number} for number in range(count)])


def written(folder: Path, text: str) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_record_is_a_task_named_by_its_place() -> None:
    assert numbered(3)[2] == Task(id="n-2", record={"number": 2})


@pytest.mark.parametrize("record", [{"other": "x"}, {"text": 3}, {"text": None}])
def test_a_field_that_must_be_text_is_named(record: Mapping[str, JsonValue]) -> None:
    with pytest.raises(TaskDataError, match="task t-7: field 'text' must be text, got"):
        Task(id="t-7", record=record).text("text")


def test_lines_are_tasks_and_blank_ones_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, '{"q": "one"}\r\n\n  \n{"q": "zwei – ü", "level": 2}')
    tasks = JsonlTasks(path, required=["q"])
    assert [tasks[0], tasks[1]] == [
        Task(id="tasks-0", record={"q": "one"}),
        Task(id="tasks-1", record={"q": "zwei – ü", "level": 2}),
    ]
    assert len(tasks) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"q": "x"', "each line must be one JSON object: Expecting"),
        ('["q"]', "each line must be a JSON object, got list"),
        ("7" * 5000, "each line must be one JSON object: Exceeds the limit"),
        ("[" * 100_000, "each line must be one JSON object: "),
        ('{"a": "x"}', r"field 'q' is missing; the record has \['a'\]"),
        ('{"q": 3}', "field 'q' must be non-empty text, got 3"),
        ('{"q": " "}', "field 'q' must be non-empty text, got ' '"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path, f'{{"q": "fine"}}\n\n{line}\n')
    with pytest.raises(TaskDataError, match=rf"tasks\.jsonl:3: {said}"):
        JsonlTasks(path, required=["q"])


def test_an_absent_an_empty_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="must be a readable UTF-8 JSONL file"):
        JsonlTasks(tmp_path / "absent.jsonl", required=())
    with pytest.raises(TaskDataError, match="at least one record, it is empty"):
        JsonlTasks(written(tmp_path, "\n \n"), required=())
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskDataError, match="must be a readable UTF-8 JSONL file"):
        JsonlTasks(tmp_path / "binary.jsonl", required=())


@pytest.mark.parametrize(
    ("size", "at_most", "held_out"), [(2, 512, 1), (9, 512, 1), (40, 512, 4), (40, 3, 3)]
)
def test_the_last_tenth_is_held_out(size: int, at_most: int, held_out: int) -> None:
    train, rest = hold_out(numbered(size), at_most=at_most)
    assert ids(train) + ids(rest) == ids(numbered(size))
    assert len(rest) == held_out


def test_a_single_task_is_trained_on_and_held_out() -> None:
    train, rest = hold_out(numbered(1))
    assert ids(train) == ids(rest) == ["n-0"]


def test_a_slice_ends_where_it_ends() -> None:
    train, _ = hold_out(numbered(5))
    with pytest.raises(IndexError):
        train[4]


@given(seed=st.integers(0, 9), size=st.integers(1, 9), passes=st.integers(1, 4))
def test_each_pass_uses_each_task_once(seed: int, size: int, passes: int) -> None:
    stream = task_indices(seed=seed, size=size, start=0, count=size * passes)
    for start in range(0, size * passes, size):
        assert sorted(stream[start : start + size]) == list(range(size))


@given(
    seed=st.integers(0, 9),
    size=st.integers(1, 9),
    start=st.integers(0, 40),
    count=st.integers(0, 40),
)
def test_a_resumed_stream_goes_on_as_it_would_have(
    seed: int, size: int, start: int, count: int
) -> None:
    whole = task_indices(seed=seed, size=size, start=0, count=start + count)
    assert task_indices(seed=seed, size=size, start=start, count=count) == whole[start:]


def test_passes_and_seeds_differ_in_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return task_indices(seed=seed, size=50, start=50 * epoch, count=50)

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def hub(repository: str, *, required: tuple[str, ...] = ("question",)) -> HubTasks:
    return HubTasks(repository, subset=None, split="train", required=required)


def test_without_the_package_datasets_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # import then raises ImportError
    with pytest.raises(TaskDataError, match=r"me/mine: .*pip install '\.\[hub\]'"):
        hub("me/mine")


class Rows:
    """What ``datasets`` returns, as far as it is used."""

    def __init__(self, rows: list[dict[str, str]], *, column_names: list[str]) -> None:
        self._rows = rows
        self.column_names = column_names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        return self._rows[index]


class Hub(ModuleType):
    """A module ``datasets`` whose hub holds three repositories and cannot find others."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[str, str | None, str]] = []

    def load_dataset(self, repository: str, subset: str | None, *, split: str) -> Rows:
        self.asked.append((repository, subset, split))
        return {
            "me/good": Rows([{"question": "1+1"}], column_names=["question"]),
            "me/other": Rows([{"prompt": "1+1"}], column_names=["prompt"]),
            "me/empty": Rows([], column_names=["question"]),
        }[repository]


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    module = Hub()
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_rows_of_the_hub_are_tasks(fake_hub: Hub) -> None:
    tasks = HubTasks("me/good", subset="main", split="test", required=["question"])
    assert (len(tasks), tasks[0]) == (1, Task(id="me/good-test-0", record={"question": "1+1"}))
    assert fake_hub.asked == [("me/good", "main", "test")]


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("me/absent", "split 'train' could not be loaded: 'me/absent'"),
        (
            "me/other",
            r"must have rows with the fields \['question'\], got 1 rows with",
        ),
        ("me/empty", r"must have rows .* got 0 rows"),
    ],
)
def test_an_unusable_repository_is_named(fake_hub: Hub, repository: str, said: str) -> None:
    with pytest.raises(TaskDataError, match=f"{repository}: .*{said}"):
        hub(repository)


def test_the_package_datasets_loads_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text('{"question": "1+1"}\n', encoding="utf-8")
    tasks = hub(str(tmp_path / "data"))
    assert [tasks[index].record for index in range(len(tasks))] == [{"question": "1+1"}]
