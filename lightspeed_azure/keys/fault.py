"""What can be wrong with a resolver: a kind and words, never the value."""

import math
from dataclasses import dataclass

from lightspeed_azure.errors import (
    CredentialResolutionError,
    LightspeedAzureError,
    ResolverUnavailableError,
)
from lightspeed_azure.keys.question import Question


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
