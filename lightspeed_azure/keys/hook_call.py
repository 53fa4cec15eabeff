"""What a resolver is asked, what it may return, and how its result is judged.

Nothing here raises: a traceback with local variables would show a key.
"""

import inspect
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic import SecretStr

from lightspeed_azure.config.provider_fields import LONGEST_KEY
from lightspeed_azure.errors import (
    CredentialResolutionError,
    LightspeedAzureError,
    ResolverUnavailableError,
)


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call of an extensible function.

    Attributes:
        function: its name: "get_api_key", "resolve_credential", or "module.qualified.name".
        arguments: its arguments by name, defaults included; left out of the repr.
        timeout: seconds that the resolver may take.
    """

    function: str
    arguments: Mapping[str, Any] = field(repr=False)
    timeout: float = 0.0

    @property
    def provider_id(self) -> str:
        """The provider whose key is needed: the argument `provider_id`, else `service`, or ""."""
        arguments = self.arguments
        return str(arguments.get("provider_id", arguments.get("service", "")))

    @property
    def field(self) -> str:
        """The provider-data field that is needed; "api_key" for a service, or ""."""
        arguments = self.arguments
        return str(arguments.get("field", "api_key" if "service" in arguments else ""))

    @property
    def key(self) -> Hashable | None:
        """Equal for equal calls; None when an argument is not hashable."""
        found = (self.function, *self.arguments.items())
        try:
            hash(found)
        except TypeError:
            return None
        return found

    def rewritten(self, changes: Mapping[str, Any]) -> Self:
        """Return the call with other arguments."""
        return replace(self, arguments=MappingProxyType({**self.arguments, **changes}))

    def within(self, timeout: float) -> Self:
        """Return the call for a resolver that may take this many seconds."""
        return replace(self, timeout=timeout)


@dataclass(frozen=True, slots=True)
class Pass:
    """The resolver has no answer. `Answer(None)` says instead that there is no key.

    Args:
        why: where the resolver looked, for the operator; it must contain no secret.
    """

    why: str = ""

    def __repr__(self) -> str:
        return f"Pass({self.why!r})" if self.why else "PASS"


PASS: Final = Pass()
"""A pass without a reason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the function.

    Args:
        value: the result; None is an answer too. A key is a string or a `SecretStr`.
        ttl: seconds for which it is cached; None: the resolver's own `ttl`.
        provider_id: whose key it is, if the resolver knows; a mismatch is an error.
        field: which field it is for, if the resolver knows; a mismatch is an error.
    """

    value: Any = field(repr=False)
    ttl: float | None = None
    provider_id: str | None = None
    field: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an answer may hold a secret, and is not pickled")


class Rewrite:
    """Go on with other arguments, for the resolvers that follow and the function.

    Args:
        **changes: new values of the function's arguments, by name.
    """

    __slots__ = ("changes",)

    def __init__(self, **changes: Any) -> None:
        self.changes: Mapping[str, Any] = MappingProxyType(changes)

    def __repr__(self) -> str:
        return f"Rewrite({', '.join(f'{name}=…' for name in self.changes)})"


@dataclass(frozen=True, slots=True)
class Failure:
    """The function, or a resolver before it, raised this error."""

    error: BaseException


type Outcome = Answer | Failure
"""How the function ended, or what a resolver put in its place."""


@dataclass(frozen=True, slots=True)
class ResolverError:
    """Why a resolver has no usable result. A value: each caller raises an exception of its own.

    Attributes:
        reason: one word, for metrics.
        text: a clause that follows the resolver's name; it contains no key.
        down: whether the service behind the resolver is down; a bad value does not say that.
        retry_after: seconds for which not to ask again: the resolver, or this call alone when
            nothing is down.
    """

    reason: str
    text: str
    down: bool = False
    retry_after: float | None = None

    def exception(self, resolver: str, call: HookCall) -> CredentialResolutionError:
        """Return the exception that names the resolver and the key."""
        asked = call.function
        if call.provider_id:
            asked = f"{call.field or 'a key'} of provider {call.provider_id}"
        return CredentialResolutionError(
            f"credential resolver {resolver!r}, asked for {asked}, {self.text}",
            resolver=resolver,
            provider_id=call.provider_id,
            field=call.field,
            reason=self.reason,
            retry_after=self.retry_after,
        )


type Result = Answer | Rewrite | Pass | ResolverError
"""The judged result of a resolver."""

type Check = Callable[[Any], Any]
"""Returns a clean value, or a `ResolverError`."""

BREAKER_OPEN = ResolverError(
    "resting", "is left alone for a while after it failed; it is tried again by itself"
)


def timed_out(seconds: float) -> ResolverError:
    """Return the error of a resolver that did not answer in time."""
    text = f"did not answer within {seconds:g} s; see whether what it asks is up"
    return ResolverError("timeout", text, True)


def error_of(exception: BaseException) -> ResolverError:
    """Return the error for what a resolver raised; of a foreign exception only the class counts."""
    if isinstance(exception, ResolverUnavailableError):
        pause = _seconds(exception.retry_after)
        return ResolverError("unavailable", f"says: {exception}", exception.down, pause)
    if isinstance(exception, LightspeedAzureError):  # its text contains no secret
        pause = _seconds(getattr(exception, "retry_after", None))
        return ResolverError("raised", f"failed: {exception}", True, pause)
    text = f"raised {type(exception).__name__}; look into its own log"
    return ResolverError("raised", text, True)


def result_of(
    returned: Any, call: HookCall, check: Check | None, *, may_rewrite: bool = True
) -> Result:
    """Judge what a resolver returned.

    Args:
        returned: what it returned, or a `ResolverError`.
        call: what it was asked.
        check: of the function's result, if the function has one.
        may_rewrite: whether it ran before the function.
    """
    if isinstance(returned, Pass | ResolverError):
        return returned
    if _closed(returned):
        return ResolverError("never_awaited", f"returned a coroutine that nobody awaits; {_AWAIT}")
    if isinstance(returned, Rewrite) and may_rewrite:
        unknown = sorted(returned.changes.keys() - call.arguments.keys())
        if unknown:
            text = f"rewrites {', '.join(unknown)}; the arguments are {', '.join(call.arguments)}"
            return ResolverError("unknown_argument", text)
        return returned
    if not isinstance(returned, Answer):
        text = f"returned {type(returned).__name__}; it must return "
        text += "Answer(…), Rewrite(…) or PASS" if may_rewrite else "Answer(…) or PASS"
        return ResolverError("no_answer", text)
    return _checked(returned, call, check)


def key_check(value: Any) -> SecretStr | ResolverError | None:
    """Return a key as a secret, None for none, or what is wrong with it."""
    if value is None:
        return None
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        kind = type(text).__name__
        return ResolverError("not_text", f"answered with {kind}; a key is text, decode or pick it")
    if not text.strip():
        return ResolverError(
            "empty", "answered with an empty text; answer with None where there is no key"
        )
    if len(text) > LONGEST_KEY:
        size = f"{len(text)} characters, more than the {LONGEST_KEY} that a header can carry"
        return ResolverError("too_large", f"answered with {size}; answer with the key alone")
    if not text.isprintable():
        what = "with a line break or a control character in it"
        return ResolverError("line_break", f"answered with a key {what}; answer with the key alone")
    return value if isinstance(value, SecretStr) else SecretStr(text)


_AWAIT = "write async def, and await what it calls"


def _checked(answer: Answer, call: HookCall, check: Check | None) -> Answer | ResolverError:
    asked = (call.provider_id, call.field)
    given = (answer.provider_id, answer.field)
    if any(mine not in (None, theirs) for mine, theirs in zip(given, asked, strict=True)):
        told = "/".join(str(part or "?") for part in given)
        return ResolverError("another_field", f"answered with the key of {told}, which is another")
    if _closed(answer.value):
        return ResolverError("never_awaited", f"answered with a coroutine; {_AWAIT}")
    if not isinstance(answer.ttl, int | float | None):
        return ResolverError("no_answer", "answered with a ttl that is no number of seconds")
    if check is None:
        return answer
    value = check(answer.value)
    return value if isinstance(value, ResolverError) else Answer(value, answer.ttl)


def _closed(value: Any) -> bool:
    """Return whether the value is awaitable; a coroutine is closed, so that Python does not warn."""
    if inspect.iscoroutine(value):
        value.close()
        return True
    return inspect.isawaitable(value)


def _seconds(retry_after: object) -> float | None:
    if isinstance(retry_after, int | float) and 0 <= retry_after < math.inf:
        return float(retry_after)
    return None
