"""Runs a resolver's steps: loads it when it is first asked, on a thread or an event loop of its own."""

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.collaborators import Collaborators
from lightspeed_azure.keys.fault import Fault, of_exception
from lightspeed_azure.keys.flight import Flight
from lightspeed_azure.keys.question import PASS
from lightspeed_azure.keys.workers import MOST_STUCK_LOOPS, LoopThread, Workers

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
