"""Demonstrations as examples to imitate: from an environment, or from a user's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from astuner_gym.chat.messages import Conversation
from astuner_gym.chat.openai_format import message_from_openai
from astuner_gym.errors import TaskDataError, WorkflowError
from astuner_gym.task import JsonlTasks
from astuner_rl.errors import RenderingError
from astuner_rl.learning.supervised import SupervisedExample
from astuner_rl.rendering.renderer import ChatRenderer
from astuner_rl.rendering.supervised import render_conversation


def read_conversations(path: Path) -> list[Conversation]:
    """Read a JSONL file whose records hold ``messages``, and ``tools`` if there are any.

    Raises:
        TaskDataError: The file or a record is malformed; the message names file and record.
    """
    records = JsonlTasks(path, required=())
    conversations = []
    for index in range(len(records)):
        # Whatever a user's file holds: what does not fit is refused below, by its record.
        record: Mapping[str, Any] = records[index].record
        try:
            messages = tuple(message_from_openai(message) for message in record["messages"])
            conversations.append(
                Conversation(messages=messages, tools=tuple(record.get("tools") or ()))
            )
        except (KeyError, TypeError, AttributeError, WorkflowError) as error:
            raise TaskDataError(
                f"{path}: record {index + 1} must hold messages in OpenAI's chat format: {error!r}"
            ) from error
    return conversations


def supervised_examples(
    conversations: Iterable[Conversation], renderer: ChatRenderer, *, at_most: int
) -> list[SupervisedExample]:
    """Render the first ``at_most`` conversations; each assistant message is a target once.

    Raises:
        TaskDataError: The chat template refuses a conversation.
    """
    return list(_examples(islice(conversations, at_most), renderer))


def _examples(
    conversations: Iterable[Conversation], renderer: ChatRenderer
) -> Iterator[SupervisedExample]:
    for number, conversation in enumerate(conversations, start=1):
        try:
            rows = render_conversation(renderer, conversation)
        except RenderingError as error:
            raise TaskDataError(f"demonstration {number} cannot be learnt from: {error}") from error
        for row in rows:
            yield SupervisedExample(token_ids=row.token_ids, mask=row.sampled_mask)
