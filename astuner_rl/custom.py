r"""A user's own workflow, judge and tasks, named by path: no package, no registration.

::

    astuner train env=custom env.workflow=my_agent.py:MyWorkflow env.judge=my_agent.py:score \
        env.tasks.path=tasks.jsonl
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

from omegaconf import MISSING

from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError, TaskDataError
from astuner_gym.judge import FunctionJudge, Judge, JudgeFunction
from astuner_gym.task import JsonlTasks, Task, TaskSource, hold_out
from astuner_gym.workflow import Models, Workflow, WorkflowResult
from astuner_rl.paths import absolute, absolute_reference, split_reference

WorkflowFunction: TypeAlias = Callable[[Task, Models], Awaitable[WorkflowResult]]


class FunctionWorkflow:
    """A workflow from a plain coroutine function ``async def run(task, models)``."""

    def __init__(self, function: WorkflowFunction) -> None:
        self._function = function

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        """Run one episode."""
        return await self._function(task, models)


@dataclass
class CustomTasksConfig:
    """Task data of an environment that is named by path."""

    path: str | None = None
    """JSONL file of tasks: one object with at least one field a line. It must be set."""
    eval_path: str | None = None
    """JSONL file of held-out tasks; null holds out the last tenth of ``path``."""

    def __post_init__(self) -> None:
        # Absolute, so that a run resumed from another folder finds the same files.
        self.path = absolute(self.path)
        self.eval_path = absolute(self.eval_path)


@dataclass
class CustomEnvConfig:
    """An environment whose workflow and judge are named by path."""

    workflow: str = MISSING
    """``path.py:Name`` of a workflow class, or of an ``async`` function ``(task, models)``."""
    judge: str = MISSING
    """``path.py:name`` of a function ``(task, result)``, or of a judge class."""
    tasks: CustomTasksConfig = field(default_factory=CustomTasksConfig)
    trainable: list[str] | None = None
    """Roles to train; null trains them all."""

    def __post_init__(self) -> None:
        self.workflow = absolute_reference("env.workflow", self.workflow)
        self.judge = absolute_reference("env.judge", self.judge)
        if self.tasks.path is None:
            raise SettingError("env.tasks.path must be set; give env.tasks.path=<tasks.jsonl>")

    def build(self) -> Environment:
        """Load workflow, judge and tasks.

        Raises:
            SettingError: A name cannot be loaded from its file.
            TaskDataError: Task data is absent or malformed.
        """
        train, held_out = self._tasks()
        return Environment(
            name="custom",
            workflow=load_workflow("env.workflow", self.workflow),
            judge=load_judge("env.judge", self.judge),
            train_tasks=train,
            eval_tasks={"eval": held_out},
        )

    def _tasks(self) -> tuple[TaskSource, TaskSource]:
        assert self.tasks.path is not None  # refused when the settings were made
        source = _load_tasks(self.tasks.path)
        if self.tasks.eval_path is None:
            return hold_out(source)
        return source, _load_tasks(self.tasks.eval_path)


def load_workflow(key: str, reference: str) -> Workflow:
    """Return the workflow that ``path.py:Name`` names.

    Args:
        key: The setting, for messages.
        reference: A class with ``async def run(self, task, models)`` that is made without
            arguments, or an ``async`` function ``(task, models)``.

    Raises:
        SettingError: It cannot be loaded, or is neither.
    """
    named = load_name(key, reference)
    if inspect.isclass(named):
        if not inspect.iscoroutinefunction(inspect.getattr_static(named, "run", None)):
            raise SettingError(
                f"{key}: a workflow class must define 'async def run(self, task, models)', "
                f"{reference} does not; define it"
            )
        return cast(Workflow, _make(key, reference, named))
    if inspect.iscoroutinefunction(named):
        return FunctionWorkflow(named)
    raise SettingError(
        f"{key} must name a workflow class or an async function (task, models), "
        f"{reference} is a {type(named).__name__}; write 'async def' or name the class"
    )


def load_judge(key: str, reference: str) -> Judge:
    """Return the judge that ``path.py:name`` names.

    Args:
        key: The setting, for messages.
        reference: A function ``(task, result)``, or a class with
            ``async def score(self, task, result)`` that is made without arguments.

    Raises:
        SettingError: It cannot be loaded, or is neither.
    """
    named = load_name(key, reference)
    if inspect.isclass(named):
        if not inspect.iscoroutinefunction(inspect.getattr_static(named, "score", None)):
            raise SettingError(
                f"{key}: a judge class must define 'async def score(self, task, result)', "
                f"{reference} does not; define it, or name a function (task, result)"
            )
        return cast(Judge, _make(key, reference, named))
    if callable(named):
        return FunctionJudge(cast(JudgeFunction, named))
    raise SettingError(
        f"{key} must name a function (task, result) or a judge class, "
        f"{reference} is a {type(named).__name__}; name the function"
    )


def load_name(key: str, reference: str) -> object:
    """Return what ``path.py:Name`` names; a file is run once, however many names come from it.

    The file may import its neighbours: its folder goes to the end of the import path, where it
    hides no installed package.

    Raises:
        SettingError: The file is absent, cannot be imported, or lacks the name; the message gives
            the line of the user's file.
    """
    path, name = split_reference(key, reference)
    module = _load_module(key, path)
    try:
        return vars(module)[name]
    except KeyError:
        public = sorted(each for each in vars(module) if not each.startswith("_"))
        raise SettingError(
            f"{key}: {path} must define {name!r}, it has {public}; name one of them"
        ) from None


def _load_module(key: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise SettingError(f"{key}: there is no file {path}; relative paths start at {Path.cwd()}")
    # Named after its whole path: two files of one name stay apart, and neither hides a package.
    module_name = f"astuner_custom_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[module_name] = module  # dataclasses look their module up by name while it runs
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything while it is imported
        del sys.modules[module_name]
        raise SettingError(
            f"{key}: {_line_of(error, path)}: the file cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    return module


def _make(key: str, reference: str, user_class: type) -> object:
    path, name = split_reference(key, reference)
    try:
        return user_class()
    except Exception as error:  # a user's constructor may raise anything
        raise SettingError(
            f"{key}: {_line_of(error, path)}: {name}() must be made without arguments: "
            f"{type(error).__name__}: {error}"
        ) from error


def _line_of(error: Exception, path: Path) -> str:
    """Return ``file:line`` where the user's file raised, or the file where it did not."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _load_tasks(path: str) -> JsonlTasks:
    tasks = JsonlTasks(Path(path), required=())
    for index in range(len(tasks)):
        if not tasks[index].record:
            raise TaskDataError(
                f"{path}: a task must have at least one field, record {index + 1} has none"
            )
    return tasks
