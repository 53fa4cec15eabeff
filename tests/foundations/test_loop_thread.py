"""An event loop on a thread: it runs, cancels and ends, and notices when it is blocked."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from lightspeed_azure.concurrency.loop_thread import LoopThread


@pytest.fixture(name="loop")
def loop_fixture() -> Iterator[LoopThread]:
    """A loop that ends with the test."""
    loop = LoopThread("a-loop-of-a-test")
    yield loop
    loop.stop()
    loop.join(5)
    assert not loop.is_alive


def test_a_coroutine_runs_in_the_callers_context(loop: LoopThread) -> None:
    """Its result and its error are the caller's, and it sees the caller's context variables."""
    variable = contextvars.ContextVar("variable", default="")
    variable.set("of-the-caller")

    async def seen() -> tuple[str, str]:
        return variable.get(), threading.current_thread().name

    async def broken() -> None:
        raise ZeroDivisionError

    assert loop.run(seen) == ("of-the-caller", "a-loop-of-a-test")
    with pytest.raises(ZeroDivisionError):
        loop.run(broken)


def test_a_cancelled_coroutine_leaves_the_loop_free(loop: LoopThread) -> None:
    """The coroutine gets a CancelledError, and the next one runs."""
    entered, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def good() -> str:
        return "good"

    future = loop.submit(hang)
    assert entered.wait(5)
    loop.cancel(future)
    assert ended.wait(5)
    with pytest.raises(CancelledError):
        future.result(5)
    assert loop.run(good) == "good"
    assert not loop.is_blocked


def test_a_blocked_loop_is_noticed(loop: LoopThread) -> None:
    """From a cancellation until the loop processes it."""
    entered, let_go = threading.Event(), threading.Event()

    async def block() -> None:
        entered.set()
        let_go.wait(20)

    async def good() -> str:
        return "good"

    future = loop.submit(block)
    assert entered.wait(5)
    assert not loop.is_blocked
    loop.cancel(future)
    assert loop.is_blocked
    let_go.set()
    assert loop.run(good) == "good"
    assert not loop.is_blocked


def test_an_ended_loop_takes_no_work() -> None:
    """What runs is cancelled, and what comes later is an error without a warning."""
    loop = LoopThread("a-loop-that-ends")
    entered = threading.Event()

    async def hang() -> None:
        entered.set()
        await asyncio.sleep(60)

    future = loop.submit(hang)
    assert entered.wait(5)
    loop.stop()
    loop.join(5)
    assert future.cancelled()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.submit(hang)
    with pytest.raises(RuntimeError, match="The interpreter is ending"):
        loop.run(hang)
    loop.cancel(future)


def test_a_loop_does_not_wait_for_itself(loop: LoopThread) -> None:
    """A coroutine that waits for its own loop would wait for ever."""

    async def inner() -> None:
        raise AssertionError("never runs")

    async def outer() -> None:
        loop.run(inner)

    with pytest.raises(RuntimeError, match="called by what it waits for"):
        loop.run(outer)
