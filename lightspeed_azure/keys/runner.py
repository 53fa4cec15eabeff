"""Runs one resolver: loads it at its first call, on worker threads or on an event loop of its own."""

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lightspeed_azure.concurrency.loop_thread import LoopThread
from lightspeed_azure.concurrency.single_flight import SingleFlight
from lightspeed_azure.concurrency.workers import Workers
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.hook_call import PASS, ResolverError, Result, error_of

MOST_BLOCKED_LOOPS = 2
"""Event loops of one resolver that may be blocked beside the current one."""

type Done = Callable[[Any], None]
"""Takes what a step returned, or a `ResolverError`; called on the thread or loop where it ran."""


class Runner:
    """Calls the steps `before` and `after` of one resolver. Safe to use from any thread.

    A synchronous resolver runs on worker threads, an asynchronous one on an event loop on a thread.
    Neither blocks the caller's event loop, and a hung resolver only affects itself.

    Args:
        name: the resolver's name.
        load: returns the resolver.
    """

    def __init__(self, name: str, load: Callable[[], object]) -> None:
        self._name = name
        self._load = load
        self._steps: dict[str, Callable[..., Any]] | None
        self.reset()

    def reset(self) -> None:
        """Start without threads, and load the resolver again: its connections are the parent's."""
        self._steps = None
        self._lock = threading.Lock()  # guards the loops and the calls on them
        self._loading = threading.Lock()  # may be held for ever, by an import that hangs
        self._workers = Workers(f"lightspeed-azure-{self._name}")
        self._loop: LoopThread | None = None
        self._blocked: list[LoopThread] = []
        self._calls: dict[SingleFlight[Result], tuple[LoopThread, Future[None]]] = {}

    @property
    def hanging(self) -> int:
        """How many threads and event loops did not return in time and have not returned since."""
        loops = [*self._blocked, self._loop]
        return self._workers.hanging + sum(loop is not None and loop.is_blocked for loop in loops)

    @property
    def is_loaded(self) -> bool:
        """Whether it is known which steps the resolver has."""
        return self._steps is not None

    def has(self, step: str) -> bool:
        """Return whether the resolver has this step; true before it is loaded."""
        return self._steps is None or step in self._steps

    def adopt(self, resolver: object) -> None:
        """Use this resolver.

        Raises:
            InvalidConfigurationError: it has no step.
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
        flight: SingleFlight[Result],
        step: str,
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        """Run one step and hand what it returned to `done`; never waits.

        Raises:
            RuntimeError: no thread can be started.
        """
        function = (self._steps or {}).get(step)
        if function is not None and is_async(function):
            self._submit(flight, functools.partial(function, *arguments), context, done)
        else:
            work = functools.partial(self._work, flight, step, arguments, context, done)
            self._workers.submit(flight, work)

    def abandon(self, flight: SingleFlight[Result]) -> None:
        """Cancel what runs for this flight, or stop counting on its thread."""
        self._workers.abandon(flight)
        with self._lock:
            call = self._calls.pop(flight, None)
        if call is not None:
            loop, future = call
            loop.cancel(future)

    def close(self) -> None:
        """End the event loop; threads end by themselves."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def _work(
        self,
        flight: SingleFlight[Result],
        step: str,
        arguments: tuple[Any, ...],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        """Run one step on this thread; loads the resolver if needed."""
        try:
            with self._loading:
                if self._steps is None:
                    context.run(lambda: self.adopt(self._load()))
            assert self._steps is not None  # noqa: S101 - for the type checker
            function = self._steps.get(step)
        except BaseException as error:  # noqa: BLE001 - foreign code is imported
            done(_unloadable(error))
            return
        if function is None:
            done(PASS)
            return
        call = functools.partial(function, *arguments)
        try:
            if is_async(function):
                self._submit(flight, call, context, done)
                return
            returned = context.run(call)
        except BaseException as error:  # noqa: BLE001 - foreign code may raise anything
            returned = error_of(error)
        done(returned)

    def _submit(
        self,
        flight: SingleFlight[Result],
        call: Callable[[], Any],
        context: contextvars.Context,
        done: Done,
    ) -> None:
        async def run() -> None:
            try:
                returned = await call()
            except BaseException as error:  # noqa: BLE001 - foreign code may raise anything
                returned = error_of(error)
            done(returned)

        with self._lock:
            loop = self._ready_loop()
            if loop is not None:
                future = context.run(loop.submit, run)
                self._calls[flight] = loop, future
        if loop is None:
            done(_BLOCKED)
        else:
            future.add_done_callback(lambda _: self._forget(flight))

    def _ready_loop(self) -> LoopThread | None:
        """Return a loop that is not blocked; None if too many are."""
        if self._loop is not None and self._loop.is_blocked:
            self._blocked = [loop for loop in self._blocked if loop.is_blocked]
            if len(self._blocked) >= MOST_BLOCKED_LOOPS:
                return None
            self._blocked.append(self._loop)
            self._loop = None
        if self._loop is None:
            self._loop = LoopThread(f"lightspeed-azure-{self._name}")
        return self._loop

    def _forget(self, flight: SingleFlight[Result]) -> None:
        with self._lock:
            self._calls.pop(flight, None)


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling this returns an awaitable."""
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object, it may be async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


_BLOCKED = ResolverError(
    "blocked", "blocks its event loops; await, or write before() without async", True
)


def _unloadable(error: BaseException) -> ResolverError:
    if isinstance(error, InvalidConfigurationError):
        return ResolverError("unloadable", f"cannot be loaded: {error}", True)
    text = f"cannot be loaded ({type(error).__name__}); see that its package is installed and works"
    return ResolverError("unloadable", text, True)
