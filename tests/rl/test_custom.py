"""A user's environment by path: what loads, and what is said where it does not."""

import asyncio
import re
import sys
import textwrap
from pathlib import Path

import pytest

from astuner_gym.errors import JudgeError, SettingError, TaskDataError
from astuner_gym.judge import Score
from astuner_gym.task import Task
from astuner_gym.workflow import WorkflowResult
from astuner_rl.composition import compose_experiment
from astuner_rl.custom import CustomEnvConfig, CustomTasksConfig, load_judge, load_workflow

PAGE = Path(__file__).parents[2] / "docs/own_workflow.md"
AGENT = """\
from dataclasses import dataclass
from astuner_gym.judge import Score
from astuner_gym.workflow import WorkflowResult

@dataclass
class Agent:
    greeting: str = "hello"
    async def run(self, task, models):
        return WorkflowResult(output=f"{self.greeting} {task.text('name')}")

async def as_function(task, models):
    return WorkflowResult(output="from a function")

class NeedsArguments:
    def __init__(self, size): ...
    async def run(self, task, models): ...

class NotAsync:
    def run(self, task, models): ...

class JudgeClass:
    async def score(self, task, result):
        return Score(rewards={"*": 0.5}, success=True)

def score(task, result):
    return len(result.output)

def plain(task, models): ...

NUMBER = 3
"""


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.py"
    path.write_text(AGENT, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def output(workflow: object) -> object:
    task = Task(id="t-0", record={"name": "Ada"})
    return asyncio.run(workflow.run(task, {})).output  # type: ignore[attr-defined]


def score(reference: str) -> Score:
    task, result = Task(id="t-0", record={}), WorkflowResult(output="abc")
    return asyncio.run(load_judge("env.judge", reference).score(task, result))


def test_a_class_is_made_without_arguments(agent_file: Path) -> None:
    assert output(load_workflow("env.workflow", f"{agent_file}:Agent")) == "hello Ada"


def test_an_async_function_is_a_workflow(agent_file: Path) -> None:
    workflow = load_workflow("env.workflow", f"{agent_file}:as_function")
    assert output(workflow) == "from a function"


def test_a_judge_is_a_function_or_a_class(agent_file: Path) -> None:
    assert score(f"{agent_file}:score").reward("solver") == 3.0
    assert score(f"{agent_file}:JudgeClass").reward("solver") == 0.5


def test_the_judge_on_the_page_scores_what_a_limit_cut_short_too(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (shown,) = (textwrap.dedent(block) for block in blocks if "def score" in block)
    (tmp_path / "judge.py").write_text(shown, encoding="utf-8")
    judge = load_judge("env.judge", f"{tmp_path}/judge.py:score")
    task = Task(id="t-0", record={"question": "2+2?", "answer": "4"})
    results = [
        WorkflowResult(output="It is 4."),
        WorkflowResult(output="It is 5."),
        WorkflowResult(output=None, truncated=True),
    ]
    scores = [asyncio.run(judge.score(task, result)) for result in results]
    assert [each.reward("writer") for each in scores] == [1.0, 0.0, 0.0]


def test_workflow_and_judge_of_one_file_share_its_module(agent_file: Path) -> None:
    agent_file.write_text(
        "from astuner_gym.workflow import WorkflowResult\n"
        "seen = []\n"
        "async def run(task, models):\n"
        "    seen.append(task.id)\n"
        "    return WorkflowResult(output=None)\n"
        "def score(task, result):\n"
        "    return len(seen)\n",
        encoding="utf-8",
    )
    output(load_workflow("env.workflow", f"{agent_file}:run"))
    assert score(f"{agent_file}:score").reward("solver") == 1.0


def test_two_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder, reward in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        text = f"def score(task, result): return {reward}\n"
        (tmp_path / folder / "judge.py").write_text(text, encoding="utf-8")
    assert score(f"{tmp_path}/a/judge.py:score").reward("x") == 1.0
    assert score(f"{tmp_path}/b/judge.py:score").reward("x") == 2.0


def test_a_file_imports_its_neighbours_but_hides_no_package(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_judge.py").write_text("REWARD = 4\n", encoding="utf-8")
    (tmp_path / "json.py").write_text("raise RuntimeError('hidden')\n", encoding="utf-8")
    (tmp_path / "judge.py").write_text(
        "import json\n"
        "from neighbour_of_judge import REWARD\n"
        "def score(task, result): return json.loads('1') * REWARD\n",
        encoding="utf-8",
    )
    assert score(f"{tmp_path}/judge.py:score").reward("x") == 4.0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Agnt", ["agent.py must define 'Agnt'", "'Agent'"]),
        ("NUMBER", ["env.workflow must name a workflow class or an async function", "is a int"]),
        ("plain", ["env.workflow must name a workflow class or an async function", "async def"]),
        ("NotAsync", ["must define 'async def run(self, task, models)'"]),
        ("NeedsArguments", ["NeedsArguments() must be made without arguments", "'size'"]),
    ],
)
def test_what_is_no_workflow_is_refused(agent_file: Path, name: str, said: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        load_workflow("env.workflow", f"{agent_file}:{name}")
    assert all(part in str(caught.value) for part in said), str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NUMBER", "env.judge must name a function (task, result) or a judge class"),
        ("Agent", "must define 'async def score(self, task, result)'"),
    ],
)
def test_what_is_no_judge_is_refused(agent_file: Path, name: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_judge("env.judge", f"{agent_file}:{name}")
    assert said in str(caught.value)


@pytest.mark.parametrize("reference", ["agent.py", "agent:Agent", "agent.py:", "agent.py:a b", ""])
def test_a_reference_is_a_path_and_a_name(reference: str) -> None:
    with pytest.raises(SettingError, match=r"env\.workflow must be written path\.py:Name"):
        load_workflow("env.workflow", reference)


def test_an_absent_file_is_named_with_the_folder_that_it_was_sought_in(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        load_workflow("env.workflow", f"{tmp_path}/agnt.py:Agent")
    assert f"there is no file {tmp_path}/agnt.py" in str(caught.value)
    assert str(Path.cwd()) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nimport no_such_package\n", "broken.py:2: the file cannot be imported: Module"),
        ("def f(:\n    pass\n", "broken.py:1: the file cannot be imported: SyntaxError"),
        ("def f():\n    return 1 / 0\nf()\n", "broken.py:2: the file cannot be imported: ZeroDiv"),
    ],
)
def test_a_file_that_fails_is_named_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError) as caught:
        load_workflow("env.workflow", f"{path}:Agent")
    assert said in str(caught.value)


def test_a_mended_file_loads_after_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "agent.py"
    path.write_text("import no_such_package\n", encoding="utf-8")
    with pytest.raises(SettingError):
        load_workflow("env.workflow", f"{path}:Agent")
    path.write_text(AGENT + "\n# mended\n", encoding="utf-8")
    assert output(load_workflow("env.workflow", f"{path}:Agent")) == "hello Ada"


def settings(agent_file: Path, tasks: Path, held_out: Path | None = None) -> CustomEnvConfig:
    return CustomEnvConfig(
        workflow=f"{agent_file}:Agent",
        judge=f"{agent_file}:score",
        tasks=CustomTasksConfig(
            path=str(tasks), eval_path=None if held_out is None else str(held_out)
        ),
    )


def test_tasks_have_whatever_fields_they_have(agent_file: Path, tmp_path: Path) -> None:
    train, held_out = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text('{"name": "Ada"}\n{"name": "Alan", "level": 2}\n', encoding="utf-8")
    held_out.write_text('{"name": "Grace"}\n', encoding="utf-8")
    environment = settings(agent_file, train, held_out).build()
    assert [environment.train_tasks[i].record for i in range(2)] == [
        {"name": "Ada"},
        {"name": "Alan", "level": 2},
    ]
    assert environment.eval_tasks["eval"][0].record == {"name": "Grace"}
    assert output(environment.workflow) == "hello Ada"


def test_without_a_file_of_held_out_tasks_the_last_tenth_is_held_out(
    agent_file: Path, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(f'{{"name": "{i}"}}\n' for i in range(20)), encoding="utf-8")
    environment = settings(agent_file, tasks).build()
    assert len(environment.train_tasks) == 18
    held_out = environment.eval_tasks["eval"]
    assert [held_out[index].text("name") for index in range(len(held_out))] == ["18", "19"]


def test_a_task_without_fields_is_refused(agent_file: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"name": "Ada"}\n{}\n', encoding="utf-8")
    with pytest.raises(TaskDataError, match="at least one field, record 2 has none"):
        settings(agent_file, tasks).build()


def test_absent_tasks_are_refused(agent_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match=r"absent\.jsonl"):
        settings(agent_file, tmp_path / "absent.jsonl").build()


def test_the_whole_environment_comes_from_the_command_line(
    agent_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"name": "Ada"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = compose_experiment(
        [
            "env=custom",
            "env.workflow=agent.py:Agent",
            "env.judge=agent.py:score",
            "env.tasks.path=tasks.jsonl",
        ]
    )
    monkeypatch.chdir("/")
    environment = config.env.build()
    assert output(environment.workflow) == "hello Ada"


def test_a_judge_that_raises_is_named_with_its_task(agent_file: Path) -> None:
    agent_file.write_text("def score(task, result): return 1 / 0\n", encoding="utf-8")
    with pytest.raises(JudgeError, match="task t-0"):
        score(f"{agent_file}:score")
