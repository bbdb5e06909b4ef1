"""When the loop counts as at rest: each case runs two agents, one of them hindered in some way."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from astuner_gym.quiescence import QuiescentLoop

Program = Callable[["Calls"], Awaitable[object]]


class Calls:
    """Opens calls on a loop by name, and answers those that are open."""

    def __init__(self, loop: QuiescentLoop) -> None:
        self._loop = loop
        self._open: dict[str, asyncio.Future[str]] = {}

    async def call(self, name: str) -> str:
        self._open[name] = self._loop.open_call()
        try:
            return await self._open[name]
        finally:
            del self._open[name]

    def names(self) -> list[str]:
        return sorted(self._open)

    def answer(self) -> None:
        for name in self.names():
            self._open[name].set_result(f"to {name}")


@pytest.fixture
def loop() -> Iterator[QuiescentLoop]:
    loop = QuiescentLoop()
    yield loop
    for task in loop.unfinished_tasks():
        task.cancel()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def rests(loop: QuiescentLoop, program: Program) -> list[list[str]]:
    """Return the names of the open calls each time the loop comes to rest, until it is done."""
    calls = Calls(loop)

    async def run() -> None:
        await loop.create_task(program(calls))  # type: ignore[arg-type]

    root = loop.create_task(run())
    seen: list[list[str]] = []
    while True:
        assert loop.run_to_rest(root)
        if root.done():
            root.result()
            return seen
        seen.append(calls.names())
        calls.answer()


async def gathered(calls: Calls, hindrance: Callable[[], Awaitable[object]]) -> None:
    async def late() -> None:
        await hindrance()
        await calls.call("late")

    await asyncio.gather(calls.call("prompt"), late())


async def sleep() -> None:
    await asyncio.sleep(0.02)


async def thread() -> None:
    await asyncio.to_thread(time.sleep, 0.02)


async def service() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(b"done\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.readline() == b"done\n"
        writer.close()


async def read_through_an_event() -> None:
    """Wait as anyio's sockets do: on an event that a protocol sets."""
    ours, theirs = socket.socketpair()
    received = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            received.set()

    transport, _ = await asyncio.get_running_loop().create_connection(Protocol, sock=ours)
    threading.Timer(0.02, theirs.send, [b"x"]).start()
    await received.wait()
    transport.close()
    theirs.close()


async def timer_sets_an_event() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, event.set)
    await event.wait()


async def child_task() -> None:
    await asyncio.create_task(sleep())


async def task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sleep())
        group.create_task(thread())


async def shielded_wait_for() -> None:
    await asyncio.wait_for(asyncio.shield(asyncio.create_task(sleep())), timeout=60)


async def bare_future_of_a_thread() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    threading.Timer(0.02, loop.call_soon_threadsafe, [future.set_result, None]).start()
    await future


@pytest.mark.parametrize(
    "hindrance",
    [
        sleep,
        thread,
        service,
        read_through_an_event,
        timer_sets_an_event,
        child_task,
        task_group,
        shielded_wait_for,
        bare_future_of_a_thread,
    ],
    ids=lambda hindrance: hindrance.__name__,
)
def test_what_is_under_way_is_waited_for(
    loop: QuiescentLoop, hindrance: Callable[[], Awaitable[object]]
) -> None:
    assert rests(loop, lambda calls: gathered(calls, hindrance)) == [["late", "prompt"]]


async def nested_gather(calls: Calls) -> None:
    await asyncio.gather(
        asyncio.gather(calls.call("a"), calls.call("b")), asyncio.gather(calls.call("c"))
    )


async def group_of_calls(calls: Calls) -> None:
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(calls.call(name))


async def calls_under_timeouts(calls: Calls) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(
            asyncio.wait_for(calls.call("a"), timeout=60),
            asyncio.wait_for(asyncio.shield(calls.call("b")), timeout=60),
            asyncio.wait([asyncio.create_task(calls.call("c"))], timeout=60),
        )


async def calls_through_a_queue(calls: Calls) -> None:
    """Wait as AgentScope's concurrent tools do: on a queue that tasks with calls will fill."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def work(name: str) -> None:
        await queue.put(await calls.call(name))

    working = asyncio.gather(*map(work, "abc"))
    for _ in "abc":
        await queue.get()
    await working


async def completed_in_any_order(calls: Calls) -> None:
    for done in asyncio.as_completed(list(map(calls.call, "abc")), timeout=60):
        await done


async def two_at_a_time(calls: Calls) -> None:
    pair = asyncio.Semaphore(2)

    async def work(name: str) -> None:
        async with pair:
            await calls.call(name)

    await asyncio.gather(*map(work, "abc"))


async def one_waits_for_the_others_reply(calls: Calls) -> None:
    spoke = asyncio.Event()

    async def speak() -> None:
        await calls.call("first")
        spoke.set()

    async def listen() -> None:
        await spoke.wait()
        await calls.call("second")

    await asyncio.gather(listen(), speak())


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (nested_gather, [["a", "b", "c"]]),
        (group_of_calls, [["a", "b", "c"]]),
        (calls_under_timeouts, [["a", "b", "c"]]),
        (calls_through_a_queue, [["a", "b", "c"]]),
        (completed_in_any_order, [["a", "b", "c"]]),
        (two_at_a_time, [["a", "b"], ["c"]]),
        (one_waits_for_the_others_reply, [["first"], ["second"]]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_only_an_answer_can_wake_is_at_rest(
    loop: QuiescentLoop, program: Program, expected: list[list[str]]
) -> None:
    assert rests(loop, program) == expected


def test_an_open_connection_that_nobody_reads_is_at_rest(loop: QuiescentLoop) -> None:
    async def keep_open(calls: Calls) -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        await calls.call("a")
        writer.close()
        theirs.close()

    assert rests(loop, keep_open) == [["a"]]


def test_the_clock_stands_still_while_answers_are_awaited(loop: QuiescentLoop) -> None:
    async def short_timeout(calls: Calls) -> None:
        await asyncio.wait_for(calls.call("a"), timeout=0.05)

    calls = Calls(loop)
    root = loop.create_task(short_timeout(calls))
    other = loop.create_task(calls.call("b"))
    assert loop.run_to_rest(root)
    time.sleep(0.1)
    calls.answer()
    assert loop.run_to_rest(root)
    root.result()
    loop.run_until_complete(other)


def test_a_loop_that_never_rests_says_what_it_waits_on(loop: QuiescentLoop) -> None:
    async def beat() -> None:
        while True:
            await asyncio.sleep(60)

    async def with_heartbeat(calls: Calls) -> None:
        asyncio.create_task(beat(), name="heartbeat")  # noqa: RUF006 - the loop keeps it in view
        await calls.call("a")

    async def root() -> None:
        await loop.create_task(with_heartbeat(Calls(loop)))

    threading.Timer(0.02, loop.interrupt).start()
    task = loop.create_task(root())
    assert not loop.run_to_rest(task)
    (reason,) = [line for line in loop.under_way() if line.startswith("heartbeat")]
    assert "test_quiescence.py" in reason


def test_several_roots_rest_when_each_waits_for_an_answer(loop: QuiescentLoop) -> None:
    calls = Calls(loop)

    async def first() -> None:
        await calls.call("first")

    async def second() -> None:
        await sleep()
        await calls.call("second")

    async def short() -> None:
        await sleep()

    roots = [loop.create_root(program()) for program in (first, second, short)]
    assert loop.run_to_rest(*roots)
    assert calls.names() == ["first", "second"]
    assert [root.done() for root in roots] == [False, False, True]
    calls.answer()
    assert loop.run_to_rest(*roots)
    assert all(root.done() for root in roots)


def test_a_root_that_nothing_will_wake_is_at_rest_without_a_call(loop: QuiescentLoop) -> None:
    async def deadlocked() -> None:
        await asyncio.gather(asyncio.Event().wait())

    root, calls = loop.create_root(deadlocked()), Calls(loop)
    assert loop.run_to_rest(root)
    other = loop.create_root(calls.call("other"))
    assert loop.run_to_rest(root, other)
    assert calls.names() == ["other"]
    (line,) = loop.under_way(root)
    assert "locks.py" in line
    for task in loop.unfinished_tasks(root):
        task.cancel()
    calls.answer()
    assert loop.run_to_rest(root, other)


def test_tasks_belong_to_the_root_under_which_they_were_made(loop: QuiescentLoop) -> None:
    async def gathering(calls: Calls, name: str) -> None:
        await asyncio.gather(
            asyncio.create_task(calls.call(name), name=name),
            asyncio.get_running_loop().create_task(calls.call(f"late {name}"), name=name),
        )

    calls = Calls(loop)
    roots = {name: loop.create_root(gathering(calls, name), name=name) for name in ("a", "b")}
    assert loop.run_to_rest(*roots.values())
    for name, root in roots.items():
        assert [task.get_name() for task in loop.unfinished_tasks(root)] == [name] * 3
    calls.answer()
    assert loop.run_to_rest(*roots.values())


def test_what_another_root_leaves_under_way_is_not_waited_for(loop: QuiescentLoop) -> None:
    async def beats() -> None:
        while True:
            await asyncio.sleep(60)

    calls = Calls(loop)
    heartbeat, root = loop.create_root(beats()), loop.create_root(calls.call("a"))
    assert loop.run_to_rest(root)
    assert loop.is_under_way(heartbeat)
    assert not loop.is_under_way(root)
    assert not loop.at_rest(root, heartbeat)
    calls.answer()
    assert loop.run_to_rest(root)


def test_a_root_with_an_open_call_rests_beside_an_open_connection(loop: QuiescentLoop) -> None:
    """It waits through ``asyncio.wait``, which alone does not tell who will end it."""

    async def keep_open(calls: Calls) -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        await calls.call("a")
        writer.close()
        theirs.close()

    async def root() -> None:
        await asyncio.wait([asyncio.ensure_future(keep_open(calls))])

    calls = Calls(loop)
    task = loop.create_root(root())
    interruption = threading.Timer(5.0, loop.interrupt)
    interruption.start()
    assert loop.run_to_rest(task)
    calls.answer()
    assert loop.run_to_rest(task)
    interruption.cancel()
