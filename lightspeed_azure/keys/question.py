"""What a resolver is asked, and what it may say: an answer, another question, or nothing."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Protocol, Self


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
