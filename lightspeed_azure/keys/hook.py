"""One function into which resolvers may step, and the decorator that makes one."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, overload

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.hook_call import (
    Answer,
    Ask,
    Check,
    Failure,
    Fault,
    Outcome,
    Question,
    Reply,
)
from lightspeed_azure.keys.registry import Chained, current, name_of
from lightspeed_azure.keys.resolver import Registration
from lightspeed_azure.keys.runner import Flight, is_async

GRACE = 1.0
"""Seconds after the deadline for which a waiter relies on the timer."""


@dataclass(frozen=True, slots=True)
class Run:
    """Ask for the function itself to be run."""

    question: Question


type Steps = Generator[Flight | Run, Any, Outcome]
"""Yields a flight to be waited for, or `Run`, to be sent the outcome of."""


def steps(
    chain: Sequence[Registration], question: Question, check: Check | None, only: str | None
) -> Steps:
    """Go through one call.

    Args:
        chain: the resolvers, in their order.
        question: what was asked.
        check: of the function's result.
        only: the name of the one resolver to ask, before the function and after it; None: all.
    """
    asked = [each for each in chain if only in (None, each.settings.name)]
    outcome, question = yield from _before(asked, question, check)
    if outcome is None:
        outcome = yield Run(question)
        assert outcome is not None  # noqa: S101 - for the type checker
    for each in reversed(asked):
        said = yield from each.after(question, outcome, check)
        outcome = _instead(said, each, question) or outcome
    return outcome


def _before(
    chain: Sequence[Registration], question: Question, check: Check | None
) -> Generator[Flight, None, tuple[Outcome | None, Question]]:
    """Return what stands in for the function, if anything, and the question as it is by then."""
    for each in chain:
        said = yield from each.before(question, check)
        if isinstance(said, Ask):
            question = question.changed(said.changes)
        elif outcome := _instead(said, each, question):
            return outcome, question
    return None, question


def _instead(said: Reply, by: Registration, question: Question) -> Outcome | None:
    """Return the outcome that a reply decides, None when it decides nothing."""
    if isinstance(said, Answer):
        return said
    if isinstance(said, Fault) and by.settings.on_error == "fail":
        return Failure(said.error(by.settings.name, question))
    return None


def _next(going: Steps, given: Outcome | None) -> Flight | Run | Outcome:
    """Return what is to be waited for next, or what came of it all."""
    try:
        return going.send(given)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def run_sync(going: Steps, function: Callable[[Question], Any]) -> Any:
    """Go through a call on this thread; waits."""
    given: Outcome | None = None
    while not isinstance(wanted := _next(going, given), Answer | Failure):
        given = None
        if isinstance(wanted, Flight):
            wanted.wait(wanted.timeout + GRACE)
        else:
            try:
                given = Answer(function(wanted.question))
            except Exception as error:  # noqa: BLE001 - resolvers may turn it into an answer
                given = Failure(error)
    return _returned(wanted)


async def run_async(going: Steps, function: Callable[[Question], Any]) -> Any:
    """Go through a call in a coroutine; never holds up its event loop."""
    given: Outcome | None = None
    while not isinstance(wanted := _next(going, given), Answer | Failure):
        given = None
        if isinstance(wanted, Flight):
            await wanted.wait_async(wanted.timeout + GRACE)
        else:
            try:
                given = Answer(await function(wanted.question))
            except Exception as error:  # noqa: BLE001 - resolvers may turn it into an answer
                given = Failure(error)
    return _returned(wanted)


def _returned(outcome: Outcome) -> Any:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.value


class Point(Chained):
    """One function into which resolvers may step.

    Args:
        name: what resolvers know the function by.
        function: the function itself.
        check: of its result, if that must be of some kind.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], *, check: Check | None = None
    ) -> None:
        super().__init__(name)
        self._function = function
        self._signature = inspect.signature(function)
        self._check = check

    def call(self, args: Any, kwargs: Any, only: str | None = None) -> Any:
        """Call the function through its resolvers; waits."""
        current().discovered()
        chain = self._known(only)
        question = self._question(args, kwargs) if chain else None
        if question is None:
            return self._function(*args, **kwargs)
        return run_sync(steps(chain, question, self._check, only), self._run)

    async def acall(self, args: Any, kwargs: Any, only: str | None = None) -> Any:
        """Await the function through its resolvers; never holds up the event loop."""
        await current().adiscovered()
        chain = self._known(only)
        question = self._question(args, kwargs) if chain else None
        if question is None:
            return await self._function(*args, **kwargs)
        return await run_async(steps(chain, question, self._check, only), self._run)

    def _known(self, only: str | None) -> tuple[Registration, ...]:
        chain = self.remembered(current().chain)
        names = [each.settings.name for each in chain]
        if only is not None and only not in names:
            known = f"the resolvers are {', '.join(names)}" if names else "none is registered"
            raise InvalidConfigurationError(
                f"there is no credential resolver of that name for {self.name}; {known}"
            )
        return chain

    def _question(self, args: Any, kwargs: Any) -> Question | None:
        """Return the call as a question, None when the arguments do not fit the function."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        return Question(self.name, MappingProxyType(dict(bound.arguments)))

    def _run(self, question: Question) -> Any:
        arguments: Any = dict(question.arguments)
        bound = inspect.BoundArguments(self._signature, arguments)
        return self._function(*bound.args, **bound.kwargs)


@overload
def extensible[**P, R](function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def extensible[**P, R](
    *, name: str, check: Check | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def extensible(function: Any = None, /, *, name: str = "", check: Check | None = None) -> Any:
    """Give a function, sync or async, a start and an end at which resolvers may step in.

    The function keeps its signature and its docstring. While no resolver is registered for it, it
    is called as it stands.

    Args:
        function: the function, when the decorator stands without parentheses.
        name: what resolvers know it by; its module and qualified name, when nothing is said.
        check: returns a clean result, or a `Fault`, for each answer of a resolver.
    """
    if function is None:
        return functools.partial(_extended, name=name, check=check)
    return _extended(function, name=name, check=check)


def _extended(function: Any, *, name: str, check: Check | None) -> Any:
    if isinstance(function, classmethod | staticmethod) or not callable(function):
        raise TypeError("@extensible belongs below @classmethod and @staticmethod, on the function")
    if inspect.isasyncgenfunction(function):
        raise TypeError("@extensible cannot step into an async generator; decorate what it awaits")
    point = Point(name_of(function, name), function, check=check)
    if is_async(function):

        @functools.wraps(function)
        def awaited(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            if not point.chain:
                return function(*args, **kwargs)  # type: ignore[no-any-return]
            return point.acall(args, kwargs)

        awaited.extensible = point  # type: ignore[attr-defined]
        return inspect.markcoroutinefunction(awaited)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not point.chain:
            return function(*args, **kwargs)
        return point.call(args, kwargs)

    called.extensible = point  # type: ignore[attr-defined]
    return called
