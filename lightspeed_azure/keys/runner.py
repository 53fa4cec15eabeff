"""Runs a resolver's steps: loads it when it is first asked, on a thread or an event loop of its own."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.concurrency.threads import start_daemon_thread
from lightspeed_azure.concurrency.timer import TIMER_THREAD, Scheduler
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.hook_call import PASS, Fault, Reply, of_exception

MOST_THREADS = 8
"""Questions that one synchronous resolver is asked at once; more of them wait their turn."""

MOST_GIVEN_UP = 4
"""Threads of one resolver that may hang beside those."""

MOST_STUCK_LOOPS = 2
"""Event loops of one resolver that may be blocked."""

type Launch = Callable[[str, Callable[[], None]], None]


class Flight(SingleFlight[Reply]):
    """One question to one resolver.

    Args:
        asked_at: monotonic seconds at which it began.
        deadline: monotonic seconds at which the waiters are released.

    Attributes:
        timeout: seconds between the two.
    """

    def __init__(self, *, asked_at: float, deadline: float) -> None:
        super().__init__(deadline)
        self.asked_at = asked_at
        self.timeout = deadline - asked_at

    @property
    def reply(self) -> Reply:
        """The reply, once it is done; before that, that there was none in time."""
        return _NONE_IN_TIME if self.result is None else self.result


_NONE_IN_TIME = Fault("timeout", "did not answer in time", True)


class Workers:
    """The daemon threads of one synchronous resolver; each ends when nothing waits.

    Safe for any number of threads.
    """

    def __init__(self, name: str, launch: Launch) -> None:
        self._name = name
        self._launch = launch
        self._lock = threading.Lock()  # guards the rest
        self._waiting: deque[tuple[Flight, Callable[[], None]]] = deque()
        self._running: set[Flight] = set()
        self._given_up: dict[Flight, bool] = {}  # and whether its place was given away
        self._places = 0

    @property
    def hanging(self) -> int:
        """How many threads did not come back in time and have not come back since."""
        return len(self._given_up)

    def submit(self, flight: Flight, run: Callable[[], None]) -> None:
        """Run it on a thread, at once or as soon as one is free.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            self._waiting.append((flight, run))
            if not self._take_place():
                return
        self._start()

    def give_up(self, flight: Flight) -> None:
        """Wait no longer for this one; its place goes to the next."""
        with self._lock:
            if flight not in self._running:
                return  # it still waits, and is skipped when its turn comes
            self._running.discard(flight)
            gives = sum(self._given_up.values()) < MOST_GIVEN_UP
            self._given_up[flight] = gives
            if not gives:
                return
            self._places -= 1
            if not self._waiting or not self._take_place():
                return
        with contextlib.suppress(RuntimeError):
            self._start()

    def _take_place(self) -> bool:
        if self._places >= MOST_THREADS:
            return False
        self._places += 1
        return True

    def _start(self) -> None:
        try:
            self._launch(self._name, self._work)
        except RuntimeError:
            with self._lock:
                self._places -= 1
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._waiting and self._waiting[0][0].done:
                    self._waiting.popleft()
                if not self._waiting:
                    self._places -= 1
                    return
                flight, run = self._waiting.popleft()
                self._running.add(flight)
            run()
            with self._lock:
                self._running.discard(flight)
                if self._given_up.pop(flight, False):
                    return  # its place was given away


class LoopThread:
    """An event loop on a daemon thread, for one asynchronous resolver."""

    def __init__(self, name: str, launch: Launch) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[Flight, asyncio.Task[None]] = {}
        self._stuck = False
        try:
            launch(name, self._run)
        except RuntimeError:
            self._loop.close()
            raise

    @property
    def stuck(self) -> bool:
        """Whether something blocks the loop: it did not even let a call be given up."""
        return self._stuck

    def submit(
        self,
        flight: Flight,
        run: Callable[[], Coroutine[Any, Any, None]],
        context: contextvars.Context,
    ) -> None:
        """Run a coroutine on the loop."""

        def start() -> None:
            if flight.done:
                return
            task = self._loop.create_task(run(), context=context)
            self._tasks[flight] = task
            task.add_done_callback(lambda _: self._tasks.pop(flight, None))

        self._loop.call_soon_threadsafe(start)

    def give_up(self, flight: Flight) -> None:
        """Cancel what runs for this flight."""
        self._stuck = True

        def cancel() -> None:
            self._stuck = False
            task = self._tasks.get(flight)
            if task:
                task.cancel()

        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Cancel what runs, and end the thread; returns at once."""

        def stop() -> None:
            for task in [*self._tasks.values()]:
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if self._tasks:
                self._loop.run_until_complete(asyncio.wait([*self._tasks.values()], timeout=1.0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Clock, scheduler, and what starts a named daemon thread."""

    clock: Clock = SYSTEM_CLOCK
    scheduler: Scheduler = TIMER_THREAD
    launch: Launch = start_daemon_thread


type Done = Callable[[Any], None]
"""Takes what a step returned, or a `Fault`; called on the thread or the loop where it ran."""


class Runner:
    """Safe for any number of threads.

    Args:
        name: the resolver's.
        load: returns the resolver.
        with_: clock, scheduler and threads.
    """

    def __init__(self, name: str, load: Callable[[], object], with_: Collaborators) -> None:
        self._name = name
        self._load = load
        self._with = with_
        self._steps: dict[str, Callable[..., Any]] | None
        self.reset()

    def reset(self) -> None:
        """Begin with no threads, and load the resolver anew: its connections are the parent's."""
        self._steps = None
        self._lock = threading.Lock()  # guards the loop
        self._loading = threading.Lock()  # may be held for ever, by an import that hangs
        self._workers = Workers(f"lightspeed-azure-{self._name}", self._with.launch)
        self._loop: LoopThread | None = None
        self._stuck: list[LoopThread] = []

    @property
    def hanging(self) -> int:
        """How many threads and event loops did not come back."""
        stuck = [*self._stuck, self._loop]
        return self._workers.hanging + sum(loop is not None and loop.stuck for loop in stuck)

    @property
    def is_loaded(self) -> bool:
        """Whether it is known which steps the resolver has."""
        return self._steps is not None

    def has(self, step: str) -> bool:
        """Return whether the resolver has this step, as far as is known before it is loaded."""
        return self._steps is None or step in self._steps

    def adopt(self, resolver: object) -> None:
        """Take this resolver.

        Raises:
            InvalidConfigurationError: it can step in nowhere.
        """
        steps = {step: getattr(resolver, step, None) for step in ("before", "after")}
        if not any(map(callable, steps.values())) and not inspect.isclass(resolver):
            steps["before"] = resolver
        found = {step: function for step, function in steps.items() if callable(function)}
        if not found:
            raise InvalidConfigurationError(
                f"credential resolver {self._name!r} has neither before() nor after(); "
                "give it one, or register a function"
            )
        self._steps = found

    def run(
        self,
        flight: Flight,
        step: str,
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        """Run one step, and give what it returned to `done`; never waits.

        Raises:
            RuntimeError: there is no thread to be had.
        """
        if self._steps is not None and step in self._steps and is_async(self._steps[step]):
            self._run_async(flight, self._steps[step], arguments, context, done)
            return
        work = functools.partial(self._work, flight, step, arguments, context, done)
        self._workers.submit(flight, work)

    def give_up(self, flight: Flight) -> None:
        """Wait no longer for what runs for this flight."""
        self._workers.give_up(flight)
        if self._loop is not None:
            self._loop.give_up(flight)

    def close(self) -> None:
        """End the event loop; threads end by themselves."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _work(
        self,
        flight: Flight,
        step: str,
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        """Run one step on this thread, loading the resolver before."""
        try:
            with self._loading:
                if self._steps is None:
                    context.run(lambda: self.adopt(self._load()))
            assert self._steps is not None  # noqa: S101 - for the type checker
            function = self._steps.get(step)
        except BaseException as error:  # noqa: BLE001 - somebody else's code is imported
            done(_unloadable(error))
            return
        if function is None:
            done(PASS)
        elif is_async(function):
            try:
                self._run_async(flight, function, arguments, context, done)
            except RuntimeError as error:
                done(of_exception(error))
        else:
            try:
                returned = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it raises stays in here
                returned = of_exception(error)
            done(returned)

    def _run_async(
        self,
        flight: Flight,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        async def run() -> None:
            try:
                returned = await function(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it raises stays in here
                returned = of_exception(error)
            done(returned)

        with self._lock:
            if self._loop is not None and self._loop.stuck:
                self._stuck = [loop for loop in self._stuck if loop.stuck]
                if len(self._stuck) >= MOST_STUCK_LOOPS:
                    done(_BLOCKED)
                    return
                self._stuck.append(self._loop)
                self._loop = None
            if self._loop is None:
                self._loop = LoopThread(f"lightspeed-azure-{self._name}", self._with.launch)
            self._loop.submit(flight, run, context)


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling this gives something to await."""
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object, it may be async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


_BLOCKED = Fault("blocked", "blocks its event loops; await, or write before() without async", True)


def _unloadable(error: BaseException) -> Fault:
    """Return the fault of a resolver that could not even be made."""
    if isinstance(error, InvalidConfigurationError):
        return Fault("unloadable", f"cannot be loaded: {error}", True)
    text = f"cannot be loaded ({type(error).__name__}); see that its package is installed and works"
    return Fault("unloadable", text, True)
