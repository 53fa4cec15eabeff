"""Every door names whole seconds in Retry-After, rounded up, and never 0."""

from collections.abc import Callable, Mapping

import pytest

from lightspeed_azure.errors import StackUnavailableError, TokenError
from lightspeed_azure.fastapi import problem
from lightspeed_azure.proxy.errors import failure_of
from lightspeed_azure.proxy.inbound import InboundRejected, Reason

type Headers = Mapping[str, str] | None


def stack_error(after: float | None) -> StackUnavailableError:
    """Return an error that knows when to ask again, or leaves it at the default."""
    return (
        StackUnavailableError("x")
        if after is None
        else StackUnavailableError("x", retry_after=after)
    )


def rejected(after: float | None) -> InboundRejected:
    """Return a rejection that knows when to ask again, or leaves it at the default."""
    reason = Reason.KEYS_UNAVAILABLE
    return (
        InboundRejected(reason, "x")
        if after is None
        else InboundRejected(reason, "x", retry_after=after)
    )


DOORS: dict[str, Callable[[float | None], Headers]] = {
    "FastAPI, token": lambda after: problem(TokenError("x", retry_after=after)).headers,
    "FastAPI, stack": lambda after: problem(stack_error(after)).headers,
    "proxy, token": lambda after: failure_of(TokenError("x", retry_after=after)).headers,
    "proxy, stack": lambda after: failure_of(stack_error(after)).headers,
    "proxy, callers": lambda after: failure_of(rejected(after)).headers,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("after", "said"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (30.0, "30"), (None, "5")]
)
def test_retry_after(door: str, after: float | None, said: str) -> None:
    """A client that waits for as long does not come too early."""
    headers = DOORS[door](after)
    assert headers is not None
    assert headers["Retry-After"] == said
