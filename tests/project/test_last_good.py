"""The last good value: one fetch for all who wait, refreshed behind requests, kept through failures."""

import asyncio
from collections.abc import Callable

import pytest

from lightspeed_azure.concurrency.last_good import LastGood


class Fetched:
    """Counts fetches; each ends when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.fetches = 0
        self.error: Exception | None = None
        self.held = asyncio.Event()
        self.held.set()

    async def fetch(self) -> int:
        """Return the number of the fetch."""
        self.fetches += 1
        number, error = self.fetches, self.error
        await self.held.wait()
        if error is not None:
            raise error
        return number

    def last_good(self, *, retry_after: float = 5.0) -> LastGood[int]:
        """Return a value that is refreshed after 30 s and expires after 60 s."""
        return LastGood(
            self.fetch,
            monotonic=lambda: self.now,
            refresh_after=30,
            expire_after=60,
            retry_after=retry_after,
        )


@pytest.fixture(name="fetched")
async def _fetched() -> Fetched:
    return Fetched()


async def turns() -> None:
    """Let all other tasks run until they wait."""
    for _ in range(9):
        await asyncio.sleep(0)


async def test_the_first_callers_share_a_fetch(fetched: Fetched) -> None:
    """Nothing is fetched before, and nothing again while the value is fresh."""
    last_good = fetched.last_good()
    assert (last_good.value, fetched.fetches) == (None, 0)
    assert await asyncio.gather(*(last_good.get() for _ in range(9))) == [1] * 9
    fetched.now += 29.9
    assert await last_good.get() == 1
    await turns()
    assert fetched.fetches == 1


async def test_a_failed_first_fetch_is_raised_to_all_and_not_remembered(fetched: Fetched) -> None:
    """The next caller starts another one at once."""
    last_good = fetched.last_good()
    fetched.error = OSError("down")
    found = await asyncio.gather(*(last_good.get() for _ in range(9)), return_exceptions=True)
    assert found == [fetched.error] * 9
    assert (fetched.fetches, last_good.failure) == (1, fetched.error)
    fetched.error = None
    assert await last_good.get() == 2
    assert last_good.failure is None


async def test_a_value_that_ages_is_replaced_in_the_background(fetched: Fetched) -> None:
    """The caller that starts the fetch gets the old value at once, and so do the others."""
    last_good = fetched.last_good()
    await last_good.get()
    fetched.now += 30
    fetched.held.clear()
    for seconds in (0, 0, 10, 10):
        fetched.now += seconds
        assert await last_good.get() == 1
        await turns()
    assert fetched.fetches == 2
    fetched.held.set()
    await turns()
    assert await last_good.get() == 2
    assert fetched.fetches == 2


async def test_a_failure_in_the_background_has_no_effect_but_a_pause(fetched: Fetched) -> None:
    """The next fetch in the background starts after `retry_after`."""
    last_good = fetched.last_good()
    await last_good.get()
    fetched.now += 30
    fetched.error = OSError("down")
    for seconds, fetches in ((0, 2), (4.9, 2), (0.1, 3)):
        fetched.now += seconds
        assert await last_good.get() == 1
        await turns()
        assert (fetched.fetches, last_good.failure) == (fetches, None)


@pytest.mark.parametrize("use", [LastGood.get, LastGood.renew], ids=["expired", "renewed"])
async def test_a_caller_that_must_wait_does_not_wait_for_the_background(
    fetched: Fetched, use: Callable[[LastGood[int]], object]
) -> None:
    """A fetch in the background that hangs is replaced, and cancelled."""
    last_good = fetched.last_good()
    await last_good.get()
    fetched.now += 59
    fetched.held.clear()
    await last_good.get()
    await turns()
    (hung,) = asyncio.all_tasks() - {asyncio.current_task()}
    fetched.now += 1
    fetched.held = asyncio.Event()
    fetched.held.set()
    assert await use(last_good) == 3  # type: ignore[misc]
    assert hung.cancelled()


async def test_an_expired_value_stays_in_use_if_no_other_comes(fetched: Fetched) -> None:
    """The callers wait once: then the value counts as fetched now."""
    last_good = fetched.last_good()
    await last_good.get()
    fetched.now += 60
    fetched.error = OSError("down")
    assert await asyncio.gather(*(last_good.get() for _ in range(9))) == [1] * 9
    assert (fetched.fetches, last_good.failure) == (2, fetched.error)
    fetched.now += 29
    assert await last_good.get() == 1
    await turns()
    assert fetched.fetches == 2


async def test_patience_ends_the_wait_and_not_the_fetch(fetched: Fetched) -> None:
    """Later callers do not wait, and wait for the same fetch when the value expires again."""
    last_good = fetched.last_good()
    await last_good.get()
    fetched.now += 60
    fetched.held.clear()
    assert await last_good.get(patience=0.001) == 1
    assert await last_good.get() == 1
    fetched.now += 60
    waiting = asyncio.create_task(last_good.get())
    await turns()
    assert fetched.fetches == 2
    fetched.held.set()
    assert await waiting == 2


async def test_a_caller_that_is_cancelled_leaves_alone(fetched: Fetched) -> None:
    """The others get the value that all waited for."""
    last_good = fetched.last_good()
    fetched.held.clear()
    leaver, stayer = (asyncio.create_task(last_good.get()) for _ in range(2))
    await turns()
    leaver.cancel()
    await turns()
    assert leaver.cancelled()
    fetched.held.set()
    assert await stayer == 1
    assert fetched.fetches == 1


async def test_renew_fetches_unless_the_last_fetch_was_just_now(fetched: Fetched) -> None:
    """Within the cooldown its outcome counts, be it a value or a failure."""
    last_good = fetched.last_good()
    assert await last_good.renew(10) == 1
    fetched.now += 9.9
    assert await last_good.renew(10) == 1
    fetched.now += 0.1
    fetched.error = OSError("down")
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            await last_good.renew(10)
    assert (fetched.fetches, last_good.value) == (2, 1)
    fetched.error = None
    assert await last_good.renew() == 3


async def test_close_cancels_only_what_nobody_waits_for(fetched: Fetched) -> None:
    """A waiting caller still gets its value; a fetch in the background ends."""
    last_good = fetched.last_good()
    fetched.held.clear()
    waiting = asyncio.create_task(last_good.get())
    await turns()
    assert last_good.close() is None
    fetched.held.set()
    assert await waiting == 1
    fetched.now += 30
    fetched.held.clear()
    await last_good.get()
    await turns()
    background = last_good.close()
    assert background is not None
    await turns()
    assert background.cancelled()
    assert last_good.close() is None
