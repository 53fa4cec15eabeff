"""A value that is fetched, kept, and fetched again, for asyncio."""

import asyncio
import math
from collections.abc import Awaitable, Callable

type _Fetch = asyncio.Task[Exception | None]


class LastGood[T]:
    """The last value that `fetch` returned. Use it from one event loop.

    All callers that must wait for a value wait for the same fetch. Cancelling one of them affects no
    other. When a fetch fails, the last good value stays.

    Args:
        fetch: returns a new value.
        monotonic: returns seconds that never go back.
        refresh_after: seconds after which `get` starts a fetch in the background.
        expire_after: seconds after which `get` waits for a fetch.
        retry_after: seconds until the next fetch in the background, if the last one failed.

    Attributes:
        value: the value; None before the first one.
        failure: why the last fetch that callers waited for failed; None if it succeeded.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        *,
        monotonic: Callable[[], float],
        refresh_after: float = math.inf,
        expire_after: float = math.inf,
        retry_after: float = 0.0,
    ) -> None:
        self.value: T | None = None
        self.failure: Exception | None = None
        self._fetch = fetch
        self._monotonic = monotonic
        self._refresh_after = refresh_after
        self._expire_after = expire_after
        self._retry_after = retry_after
        self._refresh_at = self._expires_at = self._ended_at = -math.inf
        self._task: _Fetch | None = None
        self._is_background = False
        self._waiters = 0

    async def get(self, patience: float | None = None) -> T:
        """Return the value; wait for a fetch only if there is no value, or it has expired.

        An expired value whose replacement does not come is used for another `expire_after`.

        Args:
            patience: seconds to wait for the replacement of an expired value; None: no limit.

        Raises:
            Exception: there is no value, because `fetch` raised this.
        """
        if self.value is None:
            return await self._fetched()
        now = self._monotonic()
        if now >= self._expires_at:
            task = await self._wait(patience)
            if not task.done() or task.result() is not None:
                self._restart_clock()
        elif now >= self._refresh_at and self._task is None:
            self._refresh_at = min(now + self._retry_after, self._expires_at)
            _ = self._start(background=True)
        return self.value

    async def renew(self, cooldown: float = 0.0) -> T:
        """Return the value that a fetch brings: the one that others wait for, or a new one.

        Args:
            cooldown: seconds after the end of a fetch in which no other one starts; its outcome is
                returned or raised again.

        Raises:
            Exception: what `fetch` raised.
        """
        if self._waiters or self._monotonic() - self._ended_at >= cooldown:
            return await self._fetched()
        return self._outcome(self.failure)

    def close(self) -> _Fetch | None:
        """Cancel a fetch that has no waiters, and return its task."""
        task = self._task
        if task is None or self._waiters:
            return None
        self._task = None
        task.cancel()
        return task

    async def _fetched(self) -> T:
        task = await self._wait()
        return self._outcome(task.result())

    def _outcome(self, failure: Exception | None) -> T:
        if failure is not None:
            raise failure.with_traceback(None)
        assert self.value is not None  # noqa: S101 - the fetch succeeded
        return self.value

    async def _wait(self, patience: float | None = None) -> _Fetch:
        """Wait for the fetch that others wait for, or a new one instead of one in the background."""
        task = self._task
        if task is None or self._is_background:
            self.close()
            task = self._start(background=False)
        self._waiters += 1
        try:
            await asyncio.wait((task,), timeout=patience)
        finally:
            self._waiters -= 1
        return task

    def _start(self, *, background: bool) -> _Fetch:
        self._is_background = background
        self._task = task = asyncio.create_task(self._run(background=background))
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: _Fetch) -> None:
        """Release a task, which has the context of the request that started it."""
        if self._task is task:
            self._task = None

    async def _run(self, *, background: bool) -> Exception | None:
        """Fetch; a failure in the background has no effect."""
        failure = None
        try:
            self.value = await self._fetch()
        except Exception as error:  # noqa: BLE001 - it is raised where the value is needed
            failure = error.with_traceback(None)
        if failure is None:
            self._restart_clock()
        if failure is None or not background:
            self.failure = failure
            self._ended_at = self._monotonic()
        return failure

    def _restart_clock(self) -> None:
        now = self._monotonic()
        self._refresh_at = now + self._refresh_after
        self._expires_at = now + self._expire_after
