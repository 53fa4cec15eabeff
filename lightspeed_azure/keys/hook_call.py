"""From what a resolver returned to what it said; nothing here raises, for no traceback shows a value."""

import inspect
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Protocol, Self

from pydantic import SecretStr

from lightspeed_azure.errors import (
    CredentialResolutionError,
    LightspeedAzureError,
    ResolverUnavailableError,
)


@dataclass(frozen=True, slots=True)
class Pass:
    """What a resolver returns that has nothing to say; `Answer(None)` says that there is no key.

    Args:
        why: where it looked, for the operator; it must hold no secret.
    """

    why: str = ""

    def __repr__(self) -> str:
        return f"Pass({self.why!r})" if self.why else "PASS"


PASS: Final = Pass()
"""A pass without a reason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function is to return.

    Args:
        value: the result; None is an answer too. A key is a text or a `SecretStr`.
        ttl: seconds for which it may be given again; None: what the resolver is registered with.
        provider_id: whose key it is, where the resolver can tell; another's is refused.
        field: which field's, likewise.
    """

    value: Any = field(repr=False)
    ttl: float | None = None
    provider_id: str | None = None
    field: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an answer may hold a secret, and is not pickled")


class Ask:
    """The question goes on with other arguments, to the resolvers that follow and the function.

    Args:
        **changes: new values of the function's arguments, by their names.
    """

    __slots__ = ("changes",)

    def __init__(self, **changes: Any) -> None:
        self.changes: Mapping[str, Any] = MappingProxyType(changes)

    def __repr__(self) -> str:
        return f"Ask({', '.join(f'{name}=…' for name in self.changes)})"


@dataclass(frozen=True, slots=True)
class Failure:
    """The function, or a resolver before it, raised this error."""

    error: BaseException


type Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class Question:
    """One call of a function into which resolvers may step.

    Attributes:
        function: which function: "get_api_key", "resolve_credential", or "module.qualified.name".
        arguments: its arguments by name, defaults included; shown by nothing.
        timeout: seconds that the resolver asked may take.
    """

    function: str
    arguments: Mapping[str, Any] = field(repr=False)
    timeout: float = 0.0

    @property
    def provider_id(self) -> str:
        """The provider whose key is asked for: the argument `provider_id`, else `service`, or ""."""
        arguments = self.arguments
        return str(arguments.get("provider_id", arguments.get("service", "")))

    @property
    def field(self) -> str:
        """The provider-data field asked for; "api_key" of a service, or ""."""
        arguments = self.arguments
        return str(arguments.get("field", "api_key" if "service" in arguments else ""))

    @property
    def key(self) -> Hashable | None:
        """What makes two questions one; None when the arguments cannot be compared."""
        found = (self.function, *self.arguments.items())
        try:
            hash(found)
        except TypeError:
            return None
        return found

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return the question with other arguments."""
        return replace(self, arguments=MappingProxyType({**self.arguments, **changes}))

    def within(self, timeout: float) -> Self:
        """Return the question for a resolver that may take so many seconds."""
        return replace(self, timeout=timeout)


class BeforeResolver(Protocol):
    """A resolver that steps in before the function; a plain function of a question is one too.

    `before` may be `async def`. It may have `after` beside, and the attributes `name`, `order`,
    `timeout`, `on_error`, `ttl`, … as defaults of what it is registered with.
    """

    def before(self, question: Question, /) -> Any:
        """Return `Answer(…)`, `Ask(…)` or `PASS`."""
        ...


class AfterResolver(Protocol):
    """A resolver that steps in after the function, whoever answered; may be `async def`."""

    def after(self, question: Question, outcome: Outcome, /) -> Any:
        """Return `Answer(…)` in the place of the outcome, or `PASS` to leave it as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a resolver gave nothing that can be used.

    Attributes:
        reason: one word, for metrics.
        text: a clause that follows the resolver's name.
        down: whether it says that what is behind the resolver is down; a bad value does not.
        retry_after: seconds for which not to ask, when somebody said so: the resolver, or, when
            nothing is down, this question alone.
    """

    reason: str
    text: str
    down: bool = False
    retry_after: float | None = None

    def error(self, resolver: str, question: Question) -> CredentialResolutionError:
        """Return the error that names the resolver and what was asked."""
        asked = question.function
        if question.provider_id:
            asked = f"{question.field or 'a key'} of provider {question.provider_id}"
        return CredentialResolutionError(
            f"credential resolver {resolver!r}, asked for {asked}, {self.text}",
            resolver=resolver,
            provider_id=question.provider_id,
            field=question.field,
            reason=self.reason,
            retry_after=self.retry_after,
        )


def of_exception(error: BaseException) -> Fault:
    """Return the fault for what a resolver raised; of a foreign exception the class alone."""
    if isinstance(error, ResolverUnavailableError):
        return Fault("unavailable", f"says: {error}", error.down, _pause(error.retry_after))
    if isinstance(error, LightspeedAzureError):  # whose text holds no secret either
        return Fault(
            "raised", f"failed: {error}", True, _pause(getattr(error, "retry_after", None))
        )
    text = f"raised {type(error).__name__}; look into its own log"
    return Fault("raised", text, True)


def _pause(retry_after: object) -> float | None:
    """Return the seconds that somebody asked for, None for what is none."""
    if isinstance(retry_after, int | float) and 0 <= retry_after < math.inf:
        return float(retry_after)
    return None


def timeout(seconds: float) -> Fault:
    """Return the fault of a resolver that did not answer in time."""
    text = f"did not answer within {seconds:g} s; see whether what it asks is up"
    return Fault("timeout", text, True)


RESTING = Fault("resting", "is left alone for a while after it failed; it is tried again by itself")
"""The breaker is open, and nothing was asked."""


LARGEST = 16_000
"""Characters of a key: h11, uvicorn's default parser, refuses a header's value over 16.7 kB."""

type Reply = Answer | Ask | Pass | Fault

type Check = Callable[[Any], Any]
"""Returns a clean value, or a `Fault`."""

_AWAIT = "write async def, and await what it calls"


def reply_of(returned: Any, question: Question, check: Check | None, *, asks: bool = True) -> Reply:
    """Return what a resolver said.

    Args:
        returned: what it returned.
        question: what it was asked.
        check: of the function's result, if it must be of some kind.
        asks: whether it may ask on; after the function it is too late.
    """
    if isinstance(returned, Pass | Fault):
        return returned
    if _closed(returned):
        return Fault("never_awaited", f"returned a coroutine that nobody awaits; {_AWAIT}")
    if isinstance(returned, Ask) and asks:
        unknown = sorted(returned.changes.keys() - question.arguments.keys())
        if unknown:
            text = f"asks on with {', '.join(unknown)}; the arguments are "
            return Fault("unknown_argument", text + ", ".join(question.arguments))
        return returned
    if not isinstance(returned, Answer):
        text = f"returned {type(returned).__name__}; it must return "
        text += "Answer(…), Ask(…) or PASS" if asks else "Answer(…) or PASS"
        return Fault("no_answer", text)
    return _answer(returned, question, check)


def credential(value: Any) -> SecretStr | Fault | None:
    """Return a key as a secret, None for none, or what is wrong with it."""
    if value is None:
        return None
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        kind = type(text).__name__
        return Fault("not_text", f"answered with {kind}; a key is text, decode or pick it")
    if not text.strip():
        return Fault("empty", "answered with an empty text; answer with None where there is no key")
    if len(text) > LARGEST:
        size = f"{len(text)} characters, more than the {LARGEST} that a header can carry"
        return Fault("too_large", f"answered with {size}; answer with the key alone")
    if not text.isprintable():
        what = "with a line break or a control character in it"
        return Fault("line_break", f"answered with a key {what}; answer with the key alone")
    return value if isinstance(value, SecretStr) else SecretStr(text)


def _answer(answer: Answer, question: Question, check: Check | None) -> Answer | Fault:
    asked = (question.provider_id, question.field)
    given = (answer.provider_id, answer.field)
    if any(mine not in (None, theirs) for mine, theirs in zip(given, asked, strict=True)):
        told = "/".join(str(part or "?") for part in given)
        return Fault("another_field", f"answered with the key of {told}, which is another")
    if _closed(answer.value):
        return Fault("never_awaited", f"answered with a coroutine; {_AWAIT}")
    if not isinstance(answer.ttl, int | float | None):
        return Fault("no_answer", "answered with a ttl that is no number of seconds")
    if check is None:
        return answer
    value = check(answer.value)
    if isinstance(value, Fault):
        return value
    return Answer(value, answer.ttl)


def _closed(value: Any) -> bool:
    """Return whether it is something to await, and close it so that nothing warns of it."""
    if inspect.iscoroutine(value):
        value.close()
        return True
    return inspect.isawaitable(value)
