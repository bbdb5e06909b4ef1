"""Episodes as strict JSON and back, without losing a bit.

A call that extends another one repeats its prompt and completion, and most of its messages. Only
what is new is written: with prompt ``[1, 2]`` and completion ``[3]`` in call 0, and prompt
``[1, 2, 3, 4, 5]`` in call 1 that extends it, call 1 is written as ``"extends": 0,
"new_prompt_ids": [4, 5]``. Floats are written so that they are read back bit for bit; those that
JSON has no word for become the text ``"nan"``, ``"inf"`` or ``"-inf"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from astuner_gym.chat.messages import ChatCall, ChatMessage, ChatReply, ChatRole, ToolCall
from astuner_gym.judge import GivenReward
from astuner_gym.workflow import WorkflowResult
from astuner_rl.types import (
    CallRecord,
    Completion,
    Episode,
    EpisodeKey,
    EpisodeStatus,
    FinishReason,
    SamplingParams,
    VersionChange,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEpisode:
    """An episode, and what became of its tokens."""

    episode: Episode
    masked: tuple[str | None, ...]
    """[calls] why the tokens of that call are not trained; None where they are."""


def encode_episode(logged: LoggedEpisode) -> dict[str, Any]:
    """Return an episode as a JSON object.

    Raises:
        ValueError: A call does not begin with the tokens of the call that it extends.
    """
    episode = logged.episode
    ids: dict[tuple[str, int], tuple[int, ...]] = {}
    messages: dict[str, list[dict[str, Any]]] = {}
    calls = []
    for record, masked in zip(episode.calls, logged.masked, strict=True):
        call = record.call
        context = () if record.extends is None else ids[call.agent, record.extends]
        if record.prompt_ids[: len(context)] != context:
            raise ValueError(
                f"{episode.key}: the prompt of call {call.index} of {call.agent!r} must begin with "
                f"the {len(context)} tokens of call {record.extends}, which it extends"
            )
        ids[call.agent, call.index] = record.prompt_ids + record.completion.token_ids
        former = messages.get(call.agent, [])
        current = messages[call.agent] = [asdict(message) for message in call.messages]
        repeated = _common_prefix(former, current)
        calls.append(
            {
                "agent": call.agent,
                "role": call.role,
                "index": call.index,
                "repeated_messages": repeated,
                "new_messages": current[repeated:],
                "tools": list(call.tools),
                "reply": asdict(record.reply),
                "extends": record.extends,
                "new_prompt_ids": record.prompt_ids[len(context) :],
                "token_ids": record.completion.token_ids,
                "logprobs": [_encode_float(value) for value in record.completion.logprobs],
                "finish_reason": record.completion.finish_reason,
                "policy_version": record.completion.policy_version,
                "version_changes": [
                    [change.position, change.version]
                    for change in record.completion.version_changes
                ],
                "params": asdict(record.params),
                "masked": masked,
            }
        )
    return {
        "key": asdict(episode.key),
        "task_id": episode.task_id,
        "status": episode.status,
        "reason": episode.reason,
        "by_chance": episode.by_chance,
        "rewards": _encode_floats(episode.rewards),
        "call_rewards": {
            agent: [_encode_float(value) for value in earned]
            for agent, earned in episode.call_rewards.items()
        },
        "success": episode.success,
        "metrics": _encode_floats(episode.metrics),
        "result": _encode_result(episode.result),
        "given": [[gift.agent, _encode_float(gift.amount), gift.call] for gift in episode.given],
        "attempts": episode.attempts,
        "calls": calls,
    }


def decode_episode(fields: Mapping[str, Any]) -> LoggedEpisode:
    """Return the episode that :func:`encode_episode` wrote.

    Raises:
        KeyError, TypeError, ValueError: It did not write this.
    """
    ids: dict[tuple[str, int], tuple[int, ...]] = {}
    messages: dict[str, tuple[ChatMessage, ...]] = {}
    records = []
    for call in fields["calls"]:
        agent, index, extends = call["agent"], call["index"], call["extends"]
        context = () if extends is None else ids[agent, extends]
        prompt_ids = (*context, *call["new_prompt_ids"])
        ids[agent, index] = (*prompt_ids, *call["token_ids"])
        repeated = messages.get(agent, ())[: call["repeated_messages"]]
        messages[agent] = (*repeated, *map(_decode_message, call["new_messages"]))
        records.append(
            CallRecord(
                call=ChatCall(
                    agent=agent,
                    role=call["role"],
                    index=index,
                    messages=messages[agent],
                    tools=tuple(call["tools"]),
                ),
                reply=_decode_reply(call["reply"]),
                prompt_ids=prompt_ids,
                completion=Completion(
                    token_ids=tuple(call["token_ids"]),
                    logprobs=tuple(float(value) for value in call["logprobs"]),
                    finish_reason=FinishReason(call["finish_reason"]),
                    policy_version=call["policy_version"],
                    version_changes=tuple(
                        VersionChange(position=position, version=version)
                        # Runs of earlier versions do not have it.
                        for position, version in call.get("version_changes", ())
                    ),
                ),
                extends=extends,
                params=SamplingParams(**call["params"]),
            )
        )
    return LoggedEpisode(
        episode=Episode(
            key=EpisodeKey(**fields["key"]),
            task_id=fields["task_id"],
            calls=tuple(records),
            status=EpisodeStatus(fields["status"]),
            reason=fields["reason"],
            # Runs of earlier versions told it of the clock alone, and by the reason.
            by_chance=fields.get("by_chance", fields["reason"].startswith("deadline")),
            rewards=_decode_floats(fields["rewards"]),
            call_rewards={
                # Runs of earlier versions do not have it.
                agent: tuple(map(float, earned))
                for agent, earned in fields.get("call_rewards", {}).items()
            },
            success=fields["success"],
            metrics=_decode_floats(fields["metrics"]),
            # Runs of earlier versions have neither.
            result=_decode_result(fields.get("result")),
            given=tuple(
                GivenReward(agent=agent, amount=float(amount), call=call)
                for agent, amount, call in fields.get("given", ())
            ),
            attempts=fields["attempts"],
        ),
        masked=tuple(call["masked"] for call in fields["calls"]),
    )


def _common_prefix(former: Sequence[object], current: Sequence[object]) -> int:
    pairs = zip(former, current, strict=False)  # the shorter one bounds what both begin with
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _decode_message(fields: Mapping[str, Any]) -> ChatMessage:
    return ChatMessage(
        **{
            **fields,
            "role": ChatRole(fields["role"]),
            "tool_calls": _decode_tool_calls(fields["tool_calls"]),
        }
    )


def _decode_reply(fields: Mapping[str, Any]) -> ChatReply:
    return ChatReply(**{**fields, "tool_calls": _decode_tool_calls(fields["tool_calls"])})


def _decode_tool_calls(calls: Sequence[Mapping[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(**call) for call in calls)


def _encode_result(result: WorkflowResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "output": result.output,
        "truncated": result.truncated,
        "metrics": _encode_floats(result.metrics),
    }


def _decode_result(fields: Mapping[str, Any] | None) -> WorkflowResult | None:
    if fields is None:
        return None
    return WorkflowResult(
        output=fields["output"],
        truncated=fields["truncated"],
        metrics=_decode_floats(fields["metrics"]),
    )


def _encode_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _encode_floats(values: Mapping[str, float]) -> dict[str, float | str]:
    return {name: _encode_float(value) for name, value in values.items()}


def _decode_floats(values: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
