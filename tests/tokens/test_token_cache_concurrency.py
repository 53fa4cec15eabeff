"""The token cache under real threads, real event loops and a real fork."""

import asyncio
import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest
from forking import in_fork
from pydantic import SecretStr
from token_cache_fakes import FakeTimer, Stage, numbered, outage, token

from lightspeed_azure.concurrency.threads import LOG_THREAD
from lightspeed_azure.concurrency.timer import TimerThread
from lightspeed_azure.errors import TokenError, TokenUnavailableError
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.lifetime import Token
from lightspeed_azure.tokens.source import Attempt, IssuedToken

LOOPS = 4


class Crowd:
    """1,000 coroutines in four event loops and 50 threads that ask at once."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache
        self._go = threading.Barrier(LOOPS + 50)

    def ask(self) -> list[Token | BaseException]:
        """Return what each of them got."""
        with ThreadPoolExecutor(LOOPS + 50) as pool:
            loops = [pool.submit(asyncio.run, self._coroutines()) for _ in range(LOOPS)]
            threads = [pool.submit(self._thread) for _ in range(50)]
            got = [thread.result(60) for thread in threads]
            return got + [each for loop in loops for each in loop.result(60)]

    def _thread(self) -> Token | BaseException:
        self._go.wait()
        try:
            return self._cache.get()
        except TokenError as error:
            return error

    async def _coroutines(self) -> list[Token | BaseException]:
        self._go.wait()
        asked = (self._cache.aget() for _ in range(1000 // LOOPS))
        return await asyncio.gather(*asked, return_exceptions=True)


def when_all_wait(cache: TokenCache, number: int, then: Callable[[], None]) -> threading.Thread:
    """Call `then` on a thread of its own as soon as `number` callers wait."""

    def watch() -> None:
        while cache.status().waiting < number:
            os.sched_yield()
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def expired() -> Stage:
    """Return a stage whose token has expired, and whose source answers when the test says so."""
    stage = Stage(numbered())
    stage.cache.get()
    stage.clock.mono_now += 3600
    stage.reply = None
    return stage


def test_crowd_at_expiry_makes_one_request() -> None:
    """1,050 callers, five sorts of waiting, one request, one token."""
    stage = expired()
    watcher = when_all_wait(stage.cache, 1050, lambda: stage.calls[0].answer(token("new")))
    got = Crowd(stage.cache).ask()
    watcher.join(10)
    assert len(got) == 1050
    assert len({id(each) for each in got}) == 1
    assert isinstance(got[0], Token)
    assert len(stage.attempts) == 2
    assert stage.cache.status().waiting == 0


def test_crowd_in_an_outage_makes_one_request_a_step() -> None:
    """503 for five seconds: each back-off step costs one request, whoever asks, however often."""
    stage = expired()
    stage.chance = 0.999
    steps = 0
    while stage.clock.mono_now < 1000 + 3600 + 5:
        steps += 1
        made = len(stage.attempts)
        watcher = when_all_wait(stage.cache, 1050, lambda: stage.calls[-1].answer(outage()))
        got = Crowd(stage.cache).ask()
        watcher.join(10)
        again = Crowd(stage.cache).ask()
        assert len(stage.attempts) == made + 1
        assert all(isinstance(each, TokenUnavailableError) for each in got + again)
        assert len({id(each) for each in got}) == 1050
        stage.clock.mono_now += (stage.cache.status().next_attempt or 0) + 0.001
    assert steps <= 4


def test_ten_thousand_coroutines_wait_cheaply() -> None:
    """A crowd is woken over many turns of its loop, by one call from outside, with one token."""
    stage = Stage()
    calls_from_outside = 0
    turns = 0

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe[*Ts](
            self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> asyncio.Handle:
            nonlocal calls_from_outside
            calls_from_outside += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

    async def count_turns(crowd: list[asyncio.Task[Token]]) -> None:
        nonlocal turns
        while not all(task.done() for task in crowd[::500]):
            turns += 1
            await asyncio.sleep(0)  # one turn of the loop

    async def main() -> set[int]:
        crowd = [asyncio.create_task(stage.cache.aget()) for _ in range(10_000)]
        await asyncio.sleep(0)
        assert stage.cache.status().waiting == 10_000
        nonlocal calls_from_outside
        calls_from_outside = 0
        stage.calls[0].answer(token("one"))
        assert calls_from_outside == 1
        await count_turns(crowd)
        return {id(each) for each in await asyncio.gather(*crowd)}

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert len(runner.run(main())) == 1
    assert turns > 20
    assert stage.cache.status().waiting == 0


def test_loop_that_closes_while_its_callers_wait_harms_nobody() -> None:
    """Waiters of a closed loop are forgotten; those of other loops and threads are served."""
    stage = Stage()

    async def leave() -> None:
        task = asyncio.create_task(stage.cache.aget())
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave())
    caller = stage.in_thread(stage.cache.get)
    stage.calls[0].answer(token("one"))
    assert caller.result(5).secret.get_secret_value() == "one"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_forked_child_keeps_the_token_and_starts_afresh() -> None:
    """The child of a fork serves the token, and renews it with a thread and a lock of its own."""
    stage = Stage(numbered(), scheduler=TimerThread())
    first = stage.cache.get()
    stage.reply = None
    hanging = stage.in_thread(stage.cache.refresh)

    def child() -> tuple[bool, bool, int, bool]:
        kept = stage.cache.get() is first
        idle = not stage.cache.status().refreshing and stage.cache.status().waiting == 0
        stage.reply = lambda _attempt: token("the child's")
        renewed = stage.cache.refresh()
        return kept, idle, renewed.number, stage.cache.get() is renewed

    assert in_fork(child) == (True, True, 2, True)
    assert not hanging.done()
    stage.calls[0].answer(token("the parent's"))
    assert hanging.result(5).secret.get_secret_value() == "the parent's"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_forked_child_renews_behind_by_its_own_timer() -> None:
    """The first reader in the child arranges the next renewal there."""
    stage = Stage(numbered())
    stage.cache.get()

    def child() -> tuple[int, int, int]:
        stage.scheduler.forget()
        before = stage.cache.status().renewals
        stage.cache.get()
        stage.advance(1801)
        return before, len(stage.attempts), stage.cache.get().number

    assert in_fork(child) == (1, 2, 2)
    assert len(stage.attempts) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_fork_while_the_lock_is_held_elsewhere() -> None:
    """A lock that another thread held at the fork does not stop the child."""
    held, release = threading.Event(), threading.Event()

    stage = Stage(numbered())
    # `status` reads the clock under the lock.
    clock = SlowClock(stage, held, release)
    stage.cache = TokenCache(stage, clock=clock, launch=stage.launch)
    stage.cache.get()
    thread = threading.Thread(target=stage.cache.status, daemon=True)
    clock.slow = thread
    thread.start()
    held.wait(30)
    try:
        assert in_fork(lambda: stage.cache.refresh().number) == 2
    finally:
        release.set()
        thread.join(30)


class SlowClock:
    """A clock that one thread reads slowly."""

    def __init__(self, stage: Stage, held: threading.Event, release: threading.Event) -> None:
        self._stage = stage
        self._held = held
        self._release = release
        self.slow: threading.Thread | None = None

    def wall(self) -> float:
        """Return the fake time, after a while to the slow one."""
        if threading.current_thread() is self.slow:
            self._held.set()
            self._release.wait(30)
        return self._stage.clock.wall()

    def monotonic(self) -> float:
        """Return the fake time."""
        return self._stage.clock.monotonic()


class Weather:
    """A source with real time: short tokens, failures, the same token, a hang now and then."""

    def __init__(self) -> None:
        self.dice = random.Random(7)
        self.inside = 0
        self.most_inside = 0
        self.requests = 0
        self.ends: dict[str, float] = {}
        self.last = ""
        self._lock = threading.Lock()

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Give a token, or do not."""
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            self.requests += 1
            number, fate = self.requests, self.dice.random()
        try:
            if fate < 0.15:
                raise TokenUnavailableError("bad weather")
            if fate < 0.2:
                time.sleep(0.6)  # past the deadline: this is what is simulated
            now = time.monotonic()
            if fate < 0.3 and self.ends.get(self.last, 0) > now + 0.05:
                return IssuedToken(SecretStr(self.last), self.ends[self.last] - now)
            life = 0.2 + self.dice.random() / 2
            self.last = f"token-{number}"
            self.ends[self.last] = now + life - (time.time() - attempt.sent_at)
            return IssuedToken(SecretStr(self.last), life)
        finally:
            with self._lock:
                self.inside -= 1

    def fingerprint(self) -> object:
        """Return that nothing changes."""
        return None


class Hammer:
    """Callers of every sort who ask until the end, and judge what they get."""

    def __init__(self, cache: TokenCache, weather: Weather, seconds: float) -> None:
        self._cache = cache
        self._weather = weather
        self._end = time.monotonic() + seconds
        self.served: list[int] = []
        self.dead: list[str] = []

    def in_thread(self) -> None:
        """Ask from a thread, and now and then have the token rejected."""
        count = 0
        while (before := time.monotonic()) < self._end:
            with contextlib.suppress(TokenError):
                got = self._cache.get()
                self._judge(got, before)
                count += 1
                if count % 5000 == 0:
                    self._cache.invalidate(got.secret)
        self.served.append(count)

    def in_loop(self) -> None:
        """Ask from twenty coroutines that lose patience soon."""
        asyncio.run(self._crowd())

    async def _crowd(self) -> None:
        await asyncio.gather(*(self._impatient() for _ in range(20)))

    async def _impatient(self) -> None:
        while (before := time.monotonic()) < self._end:
            with contextlib.suppress(TokenError, TimeoutError):
                async with asyncio.timeout(0.05):
                    self._judge(await self._cache.aget(), before)
                self.served.append(1)
            await asyncio.sleep(0)  # one turn of the loop

    def _judge(self, got: Token, before: float) -> None:
        # At a moment before the token was asked for: no delay of ours can make this fail.
        if self._weather.ends[got.secret.get_secret_value()] < before:
            self.dead.append(got.secret.get_secret_value())


def test_soak_in_real_threads_and_loops() -> None:
    """Threads and loops hammer short-lived tokens for seconds: none dead, none forgotten."""
    weather = Weather()
    cache = TokenCache(weather, deadline=0.4, random=lambda: 0.1)
    hammer = Hammer(cache, weather, 6)
    threads = [threading.Thread(target=hammer.in_thread, daemon=True) for _ in range(6)]
    threads += [threading.Thread(target=hammer.in_loop, daemon=True) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not any(each.is_alive() for each in threads), "somebody was forgotten"
    assert hammer.dead == []
    assert sum(hammer.served) > 0
    assert cache.status().waiting == 0
    assert weather.most_inside <= 3
    assert cache.status().renewals > 3
    cache.close()


def test_timer_thread_calls_in_order_and_not_what_was_cancelled() -> None:
    """The real scheduler keeps its appointments, and one that breaks does not stop the rest."""
    scheduler = TimerThread()
    made: list[str] = []
    done = threading.Event()

    def broken() -> None:
        made.append("broken")
        raise ValueError

    scheduler.call_later(0.05, done.set)
    scheduler.call_later(0.02, lambda: made.append("second"))
    scheduler.call_later(0.03, broken)
    scheduler.call_later(0.01, lambda: made.append("first"))
    scheduler.call_later(0.01, lambda: made.append("never")).cancel()
    assert done.wait(30)
    assert made == ["first", "second", "broken"]


async def test_real_deadline_in_a_loop() -> None:
    """With the machine's own clock and timer a coroutine is let go at its deadline."""
    release = threading.Event()

    class Hanging:
        def __call__(self, attempt: Attempt) -> IssuedToken:
            assert attempt.timeout <= 0.2
            release.wait(30)
            return token("late")

        def fingerprint(self) -> object:
            return None

    cache = TokenCache(Hanging(), deadline=0.2)
    with pytest.raises(TokenUnavailableError, match=r"0\.2 s"):
        await cache.aget()
    release.set()


class Hanging:
    """A source that never answers."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Wait until the test is over."""
        del attempt
        self.release.wait(60)
        return token("late")

    def fingerprint(self) -> object:
        """Return that nothing changes."""
        return None


class Blocking(logging.Handler):
    """A log handler whose destination accepts nothing until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.accept = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Block, then keep the line."""
        self.entered.set()
        self.accept.wait(60)
        self.lines.append(record.getMessage())


def until(reached: Callable[[], bool]) -> None:
    """Return when something is so, or fail."""
    patience = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < patience
        os.sched_yield()


async def test_blocking_log_handler_does_not_delay_the_deadline_of_another_cache() -> None:
    """The line about one cache is stuck in a handler; the timer still ends another cache's flight."""
    source, handler, timer = Hanging(), Blocking(), TimerThread()
    logger = logging.getLogger("tests.blocked")
    logger.propagate = False
    logger.addHandler(handler)
    first = TokenCache(source, name="first", deadline=0.1, scheduler=timer, logger=logger)
    second = TokenCache(source, name="second", deadline=0.2, scheduler=timer)
    try:
        second.renew_if_due()
        with pytest.raises(TokenUnavailableError):
            await first.aget()
        assert await asyncio.to_thread(handler.entered.wait, 30)
        called = threading.Event()
        timer.call_later(0.0, called.set)
        assert await asyncio.to_thread(called.wait, 30), "the timer thread is blocked"
        await asyncio.to_thread(until, lambda: not second.status().refreshing)
        assert second.status().last_error_text == (
            "No answer about a token for second within 0.2 s. "
            "Check the network and the proxy between here and the authority"
        )
        assert handler.lines == []
    finally:
        handler.accept.set()
        source.release.set()
    for thread in threading.enumerate():
        if thread.name == LOG_THREAD:
            await asyncio.to_thread(thread.join, 30)
    logger.removeHandler(handler)
    (line,) = handler.lines
    assert line == (
        "No token for first (TokenUnavailableError: No answer about a token for first within 0.1 "
        "s. Check the network and the proxy between here and the authority)"
    )


class NoTimer:
    """A scheduler that makes no call: its thread is blocked, or could not be started."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        """Accept a call."""
        return FakeTimer(delay, callback)


async def test_coroutines_have_a_bound_of_their_own() -> None:
    """Without the timer thread, coroutines are still let go at the deadline, with the same error."""
    source = Hanging()
    cache = TokenCache(source, deadline=0.2, scheduler=NoTimer())
    try:
        asked = (cache.aget() for _ in range(500))
        got = await asyncio.gather(*asked, return_exceptions=True)
        assert len(got) == 500
        (text,) = {str(error) for error in got}
        assert text == (
            "No answer about a token for azure within 0.2 s. "
            "Check the network and the proxy between here and the authority"
        )
        status = cache.status()
        assert (status.waiting, status.failures, status.refreshing) == (0, 1, False)
    finally:
        source.release.set()


async def test_coroutine_that_joins_late_waits_only_for_the_rest() -> None:
    """The bound of a coroutine is the flight's deadline, whenever it has joined."""
    source = Hanging()
    cache = TokenCache(source, deadline=0.3, scheduler=NoTimer())
    try:
        cache.renew_if_due()
        await asyncio.sleep(0.2)
        before = time.monotonic()
        with pytest.raises(TokenUnavailableError):
            await cache.aget()
        assert time.monotonic() - before < 10  # not the whole of a later bound
    finally:
        source.release.set()


def test_coroutine_is_served_in_time_without_the_timer() -> None:
    """The bound does not get in the way of an answer."""
    cache = TokenCache(Stage(numbered()), deadline=30, scheduler=NoTimer())
    assert asyncio.run(cache.aget()).secret.get_secret_value() == "token-1"
