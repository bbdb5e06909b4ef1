"""A world of one episode, and its evaluation, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from astuner_gym.services.pool import Lease
from astuner_gym.task import JsonValue

REQUEST_TIMEOUT_S = 120.0
"""An executor ends a request earlier; one that does not is given up."""
GONE = 410
"""Status of a world that its own code has ended."""
WORLD_ENDED = "Execution failed. The world has ended: nothing more can be executed."
Changes: TypeAlias = Mapping[str, str]
"""By app, the rows that were changed, one JSON text a line, as the engine saves them."""


class WorldError(RuntimeError):
    """The engine answered with an error that no agent's code causes."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a world's final state was judged, in the engine's terms."""

    success: bool
    required_passed: int
    required: int
    no_op_failed: int
    no_op: int

    @property
    def dense(self) -> float:
        """``max(0, required passed / required - no-op failed / no-op)``.

        Example: 2 of 4 required and 1 of 2 no-op checks failed give 0. A share of nothing is 0.
        """
        passed = self.required_passed / self.required if self.required else 0.0
        harmed = self.no_op_failed / self.no_op if self.no_op else 0.0
        return max(0.0, passed - harmed)


class World:
    """The world that a lease of an executor holds, both taken when it is first used.

    Agents think about their first piece of code without a world, so that many can at once.
    Every method raises :class:`WorldError` if the engine cannot make the world.
    """

    def __init__(self, task_id: str, *, lease: Callable[[], Awaitable[Lease]]) -> None:
        """Make no world yet.

        Args:
            task_id: The engine's name of the task.
            lease: Called once, for the executor.
        """
        self._task_id = task_id
        self._take_lease = lease
        self._lease: Lease | None = None
        self.ended = False
        """Whether its code has ended it."""

    async def execute(self, code: str) -> str:
        """Run code in it; returns what it printed, or its error."""
        answer = await self._post("execute", code=code)
        return WORLD_ENDED if answer is None else str(answer["output"])

    async def completed(self) -> bool:
        """Return whether its task was marked as completed."""
        answer = await self._post("task_completed")
        return answer is not None and answer["output"] is True

    async def changes(self) -> Changes | None:
        """Return what was changed up to the last execution; None if the world has ended."""
        answer = await self._post("state")
        if answer is None or not isinstance(answer["changes"], dict):
            return None
        return {str(app): str(text) for app, text in answer["changes"].items()}

    async def alarms(self) -> tuple[str, ...]:
        """Return the audit events of code that reached out of the world."""
        response = await self._request("GET", "alarms", None)
        alarms = response.json()["alarms"]
        return tuple(map(str, alarms))

    async def _post(self, method: str, **body: JsonValue) -> Mapping[str, JsonValue] | None:
        if self._lease is None:
            self._lease = await self._take_lease()
            await self._post("initialize")
        response = await self._request("POST", method, {"task_id": self._task_id, **body})
        if response.status_code == GONE:
            self.ended = True
            return None
        if response.status_code != httpx.codes.OK:
            raise WorldError(
                f"{method} of task {self._task_id} must be answered with 200, got "
                f"{response.status_code}: {response.text[:300]}"
            )
        answer: Mapping[str, JsonValue] = response.json()
        return answer

    async def _request(
        self, verb: str, path: str, body: Mapping[str, JsonValue] | None
    ) -> httpx.Response:
        assert self._lease is not None  # the first request makes the world
        async with _client() as client:
            return await client.request(
                verb, f"{self._lease.base_url}/{path}", json=body, headers=self._lease.headers
            )


def _client() -> httpx.AsyncClient:
    """Return a client for one request: a client is bound to the event loop that it was used in.

    Leases are on loopback, without TLS: reading certificates would cost 15 ms a client.
    """
    return httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False, verify=False)


async def evaluate(lease: Lease, task_id: str, changes: Changes) -> CheckResult | None:
    """Have a final state judged by the evaluator; None if it is no state that a world leads to.

    Raises:
        WorldError: The evaluator failed.
    """
    async with _client() as client:
        response = await client.post(
            f"{lease.base_url}/evaluate",
            json={"task_id": task_id, "changes": dict(changes)},
            headers=lease.headers,
        )
    if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        return None
    if response.status_code != httpx.codes.OK:
        raise WorldError(
            f"the evaluation of task {task_id} must be answered with 200, got "
            f"{response.status_code}: {response.text[:300]}"
        )
    report = response.json()["output"]
    passes, failures = report["passes"], report["failures"]
    return CheckResult(
        success=bool(report["success"]),
        required_passed=_count(passes, "no_op_fail"),
        required=_count(passes, "no_op_fail") + _count(failures, "no_op_fail"),
        no_op_failed=_count(failures, "no_op_pass"),
        no_op=_count(passes, "no_op_pass") + _count(failures, "no_op_pass"),
    )


def _count(checks: list[Mapping[str, JsonValue]], label: str) -> int:
    return sum(check["label"] == label for check in checks)
