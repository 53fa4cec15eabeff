"""The hook around a function: resolvers before it, the function, the same resolvers after it.

The order of steps is written once, as a generator that yields what to wait for; a synchronous caller
waits on its thread, an asynchronous one awaits.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import MappingProxyType
from typing import Any, overload

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.hook_call import (
    Answer,
    Check,
    Failure,
    HookCall,
    Outcome,
    ResolverError,
    Result,
    Rewrite,
)
from lightspeed_azure.keys.registry import KnownResolvers, name_of, registries, registry
from lightspeed_azure.keys.resolver import Resolver, Wait
from lightspeed_azure.keys.runner import is_async

type _Steps = Generator[Wait | HookCall, Any, Outcome]
"""Yields what to wait for, or the call to make, whose outcome it is sent; returns the outcome."""


class Hook:
    """One function with its resolvers.

    Args:
        name: the function's name for resolvers.
        function: the function itself.
        check: of its result, if it has one.

    Attributes:
        name: see above.
        known: the function's resolvers.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], *, check: Check | None = None
    ) -> None:
        self.name = name
        self.known = KnownResolvers(name)
        self._function = function
        self._signature = inspect.signature(function)
        self._check = check

    def call(self, args: Any, kwargs: Any, only: str | None = None) -> Any:
        """Call the function through its resolvers; waits.

        Args:
            args: the positional arguments.
            kwargs: the other arguments.
            only: the name of the one resolver to call; None for all.
        """
        registry().discovered()
        resolvers = self._resolvers(only)
        call = self._hook_call(args, kwargs) if resolvers else None
        if call is None:
            return self._function(*args, **kwargs)
        steps = _steps(resolvers, call, self._check)
        given: Outcome | None = None
        while not isinstance(wanted := _next(steps, given), Answer | Failure):
            given = None
            if isinstance(wanted, Wait):
                wanted.flight.wait(wanted.seconds)
            else:
                try:
                    given = Answer(self._run(wanted))
                except Exception as error:  # noqa: BLE001 - resolvers may replace it
                    given = Failure(error)
        return _returned(wanted)

    async def acall(self, args: Any, kwargs: Any, only: str | None = None) -> Any:
        """Do what `call` does without blocking the event loop."""
        await registry().adiscovered()
        resolvers = self._resolvers(only)
        call = self._hook_call(args, kwargs) if resolvers else None
        if call is None:
            return await self._function(*args, **kwargs)
        steps = _steps(resolvers, call, self._check)
        given: Outcome | None = None
        while not isinstance(wanted := _next(steps, given), Answer | Failure):
            given = None
            if isinstance(wanted, Wait):
                await wanted.flight.wait_async(wanted.seconds)
            else:
                try:
                    given = Answer(await self._run(wanted))
                except Exception as error:  # noqa: BLE001 - resolvers may replace it
                    given = Failure(error)
        return _returned(wanted)

    def _resolvers(self, only: str | None) -> Sequence[Resolver]:
        resolvers = self.known.get()
        if only is None:
            return resolvers
        names = [each.name for each in resolvers]
        if only not in names:
            known = f"the resolvers are {', '.join(names)}" if names else "none is registered"
            raise InvalidConfigurationError(
                f"there is no credential resolver of that name for {self.name}; {known}"
            )
        return [each for each in resolvers if each.name == only]

    def _hook_call(self, args: Any, kwargs: Any) -> HookCall | None:
        """Return the call with its arguments by name; None when they do not fit the function."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        return HookCall(self.name, MappingProxyType(dict(bound.arguments)))

    def _run(self, call: HookCall) -> Any:
        arguments: Any = dict(call.arguments)
        bound = inspect.BoundArguments(self._signature, arguments)
        return self._function(*bound.args, **bound.kwargs)


@overload
def extensible[**P, R](function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def extensible[**P, R](
    *, name: str, check: Check | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def extensible(function: Any = None, /, *, name: str = "", check: Check | None = None) -> Any:
    """Let resolvers run before and after a function, sync or async.

    The function keeps its signature and its docstring. While no resolver is registered for it, it
    is called directly.

    Args:
        function: the function, when the decorator is used without parentheses.
        name: its name for resolvers; by default its module and qualified name.
        check: returns a clean result, or a `ResolverError`, for each answer of a resolver.
    """
    if function is None:
        return functools.partial(_extended, name=name, check=check)
    return _extended(function, name=name, check=check)


def _extended(function: Any, *, name: str, check: Check | None) -> Any:
    if isinstance(function, classmethod | staticmethod) or not callable(function):
        raise TypeError("@extensible belongs below @classmethod and @staticmethod, on the function")
    if inspect.isasyncgenfunction(function):
        raise TypeError("@extensible cannot step into an async generator; decorate what it awaits")
    hook = Hook(name_of(function, name), function, check=check)
    known = hook.known
    if is_async(function):

        @functools.wraps(function)
        def awaited(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            if known.none_at is registries.mark:
                return function(*args, **kwargs)  # type: ignore[no-any-return]
            return hook.acall(args, kwargs)

        awaited.extensible = hook  # type: ignore[attr-defined]
        return inspect.markcoroutinefunction(awaited)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if known.none_at is registries.mark:
            return function(*args, **kwargs)
        return hook.call(args, kwargs)

    called.extensible = hook  # type: ignore[attr-defined]
    return called


def _steps(resolvers: Sequence[Resolver], call: HookCall, check: Check | None) -> _Steps:
    """Go through one call."""
    outcome: Outcome | None = None
    for each in resolvers:
        result = yield from each.ask(call, check)
        if isinstance(result, Rewrite):
            call = call.rewritten(result.changes)
        elif outcome := _outcome(result, each, call):
            break
    if outcome is None:
        outcome = yield call
    assert outcome is not None  # noqa: S101 - for the type checker
    for each in reversed(resolvers):
        result = yield from each.ask(call, check, outcome)
        outcome = _outcome(result, each, call) or outcome
    return outcome


def _outcome(result: Result, by: Resolver, call: HookCall) -> Outcome | None:
    """Return the outcome that a result decides, or None."""
    if isinstance(result, Answer):
        return result
    if isinstance(result, ResolverError) and by.settings.on_error == "fail":
        return Failure(result.exception(by.name, call))
    return None


def _next(steps: _Steps, given: Outcome | None) -> Wait | HookCall | Outcome:
    """Return what to do next, or the final outcome."""
    try:
        return steps.send(given)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def _returned(outcome: Outcome) -> Any:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.value
