"""Episodes as TRL steps them, without TRL: tools, results, rewards, and what cannot be stepped."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from agentscope.message import UserMsg
from gymnasium.error import InvalidAction

from astuner_envs.gsm8k import Gsm8kConfig
from astuner_gym.adapters.trl import ToolEpisode, ToolEpisodes
from astuner_gym.chat.messages import ChatCall, ChatReply
from astuner_gym.environment import Environment
from astuner_gym.errors import SettingError, WorkflowError
from astuner_gym.judge import FunctionJudge
from astuner_gym.task import RecordTasks, Task
from astuner_gym.workflow import Models, Workflow, WorkflowResult

TASKS = RecordTasks(
    "sums",
    [
        {"question": "Tom has 12 apples and eats 5. How many?", "answer": "#### 7"},
        {"question": "汤姆有3个苹果。", "answer": "#### 3"},
    ],
)


@pytest.fixture
def episodes() -> ToolEpisodes:
    return ToolEpisodes(Gsm8kConfig(max_calls=3).build(), tasks=TASKS)


def start(episodes: ToolEpisodes, task: int = 0) -> Any:
    (row,) = episodes.rows([task])
    episode = episodes.make()
    episode.reset(**row)
    return episode


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


def reward(episodes: ToolEpisodes, episode: ToolEpisode, text: str) -> float | None:
    (value,) = episodes.rewards(prompts=[[]], completions=[said(text)], environments=[episode])
    return value


class Doing:
    """A workflow of one function."""

    def __init__(self, do: Any) -> None:
        self._do = do

    async def run(self, task: Task, models: Models) -> WorkflowResult:
        return WorkflowResult(output=await self._do(models))


def environment(workflow: Workflow) -> Environment:
    return Environment(
        name="test",
        workflow=workflow,
        judge=FunctionJudge(lambda task, result: 1),
        train_tasks=RecordTasks("t", [{}, {}]),
    )


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": name, "description": "It.", "parameters": parameters},
    }


def test_rows_hold_the_prompt_of_the_first_call(episodes: ToolEpisodes) -> None:
    rows = episodes.rows([1, 0, 1])
    assert [row["task"] for row in rows] == [1, 0, 1]
    assert [row["prompt"][1]["content"] for row in rows[:2]] == [
        "汤姆有3个苹果。",
        "Tom has 12 apples and eats 5. How many?",
    ]


def test_a_tool_gives_what_the_workflows_tool_gives(episodes: ToolEpisodes) -> None:
    episode = start(episodes)
    assert episode.calculator(expression="12-5") == "7"
    assert reward(episodes, episode, "#### 7") == 1.0


def test_wrong_answers_and_empty_completions_are_judged(episodes: ToolEpisodes) -> None:
    assert reward(episodes, start(episodes), "#### 17") == 0.0
    (value,) = episodes.rewards(completions=[[]], environments=[start(episodes)])
    assert value == 0.0


def test_a_completion_that_ends_in_a_tools_result_has_no_answer(episodes: ToolEpisodes) -> None:
    episode = start(episodes)
    episode.calculator(expression="12-5")
    completion = [{"role": "tool", "name": "calculator", "content": "#### 7"}]
    assert episodes.rewards(completions=[completion], environments=[episode]) == [0.0]


def test_the_workflow_says_what_is_wrong_with_arguments(episodes: ToolEpisodes) -> None:
    episode = start(episodes)
    assert "import os" in episode.calculator(expression="import os")
    assert episode.calculator(nonsense=[1], self="x") != ""


def test_arguments_that_no_text_can_hold_may_be_given_again(episodes: ToolEpisodes) -> None:
    episode = start(episodes)
    with pytest.raises(InvalidAction, match="a lone surrogate"):
        episode.calculator(expression="\ud83d")
    assert episode.calculator(expression="12-5") == "7"
    assert reward(episodes, episode, "#### 7") == 1.0


def test_the_workflow_limits_the_calls_and_nothing_follows_its_end(
    episodes: ToolEpisodes,
) -> None:
    episode = start(episodes)
    for _ in range(3):
        episode.calculator(expression="12-5")
    with pytest.raises(WorkflowError, match="the episode is over"):
        episode.calculator(expression="12-5")
    assert reward(episodes, episode, "#### 7") == 0.0


def test_a_reset_forgets_the_episode_before(episodes: ToolEpisodes) -> None:
    episode = start(episodes)
    assert reward(episodes, episode, "#### 7") == 1.0
    episode.reset(**episodes.rows([1])[0])
    assert reward(episodes, episode, "#### 7") == 0.0


def test_a_row_of_another_environment_is_refused(episodes: ToolEpisodes) -> None:
    row = episodes.rows([0])[0] | {"task": 1}
    with pytest.raises(SettingError, match=r"make the rows with ToolEpisodes\.rows"):
        episodes.make().reset(**row)


def test_a_failed_episode_has_no_reward(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(models: Models) -> None:
        await models["a"]([UserMsg("user", "Go.")])
        raise ValueError("broken")

    episodes = ToolEpisodes(environment(Doing(fail)))
    with caplog.at_level(logging.WARNING):
        assert reward(episodes, start(episodes), "Yes.") is None
    assert "broken" in caplog.text


def test_an_opponent_that_fails_fails_the_episode_and_not_the_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Down:
        async def respond(self, call: ChatCall) -> ChatReply:
            raise ConnectionError("no server")

    async def both(models: Models) -> None:
        await models["a"]([UserMsg("user", "Go.")])
        await models["b"]([UserMsg("user", "Go.")])

    episodes = ToolEpisodes(environment(Doing(both)), agent="a", opponent=Down())
    with caplog.at_level(logging.WARNING):
        assert reward(episodes, start(episodes), "Yes.") is None
    assert "no server" in caplog.text


def test_an_agent_that_goes_on_after_its_last_reply_does_not_fit_trl() -> None:
    async def ask_twice(models: Models) -> None:
        await models["a"]([UserMsg("user", "Once.")])
        await models["a"]([UserMsg("user", "Twice.")])

    episodes = ToolEpisodes(environment(Doing(ask_twice)))
    assert reward(episodes, start(episodes), "Yes.") is None


def test_an_agent_that_rewrites_its_history_does_not_fit_trl() -> None:
    async def rewrite(models: Models) -> None:
        await models["a"]([UserMsg("user", "One.")], tools=[tool("look")])
        await models["a"]([UserMsg("user", "Another.")], tools=[tool("look")])

    episodes = ToolEpisodes(environment(Doing(rewrite)))
    episode = start(episodes)
    with pytest.raises(WorkflowError, match="rewrote its history"):
        episode.look()
    assert reward(episodes, episode, "Yes.") is None


def test_tools_that_change_do_not_fit_trl() -> None:
    async def change(models: Models) -> None:
        prompt = [UserMsg("user", "One.")]
        await models["a"](prompt, tools=[tool("look")])
        await models["a"](prompt, tools=[tool("see")])

    episodes = ToolEpisodes(environment(Doing(change)))
    with pytest.raises(WorkflowError, match="the same tools in all calls"):
        start(episodes).look()


@pytest.mark.parametrize("name", ["reset", "get_reward", "_hidden", "two words"])
def test_a_tool_that_trl_would_not_see_is_refused(name: str) -> None:
    async def offer(models: Models) -> None:
        await models["a"]([UserMsg("user", "Go.")], tools=[tool(name)])

    with pytest.raises(SettingError, match="rename"):
        ToolEpisodes(environment(Doing(offer)))


def test_agents_at_once_need_an_opponent() -> None:
    class Nodding:
        async def respond(self, call: ChatCall) -> ChatReply:
            return ChatReply(text="Yes.")

    async def both(models: Models) -> None:
        await models["b"]([UserMsg("user", "Go.")])
        await models["a"]([UserMsg("user", "Go.")])

    episodes = ToolEpisodes(environment(Doing(both)), agent="a", opponent=Nodding())
    assert reward(episodes, start(episodes), "Yes.") == 1.0
