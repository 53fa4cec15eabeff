"""One function into which resolvers may step, and the decorator that makes one."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any, overload

from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys.chain import run_async, run_sync, steps
from lightspeed_azure.keys.chains import Chained, name_of
from lightspeed_azure.keys.current import current
from lightspeed_azure.keys.question import Question
from lightspeed_azure.keys.registration import Registration
from lightspeed_azure.keys.reply import Check
from lightspeed_azure.keys.runner import is_async


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
