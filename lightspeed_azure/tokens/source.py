"""What the token cache asks for a token: one method, implemented by `credentials.py`.

The cache knows no Azure; a source knows no caching. A source answers with seconds counted from
the moment the request was *sent*, because only it can tell whether the service spoke in absolute
or in relative times, and the cache alone decides by which clock a token ends.
"""

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request for a token.

    Attributes:
        timeout: seconds that the whole attempt may take, every retry inside included.
        sent_at: wall clock (POSIX seconds) when the attempt began.
        previous: the token that the cache holds, so that a source may bypass a cache of its own.
    """

    timeout: float
    sent_at: float
    previous: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as a source hands it over.

    Attributes:
        secret: the bearer token.
        expires_in: seconds from `Attempt.sent_at` until it expires.
        refresh_in: seconds from `Attempt.sent_at` after which the issuer wants it renewed, if said.
    """

    secret: SecretStr
    expires_in: float
    refresh_in: float | None = None


class TokenSource(Protocol):
    """Where tokens come from. Called on a thread of its own.

    Safe to call from two threads at once: where an attempt hangs past its deadline, the next one
    begins beside it.
    """

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Ask for a token; may block, at most `attempt.timeout` seconds.

        Raises:
            TokenUnavailableError: passing; `retry_after` when the service said so.
            CredentialRejectedError: permanent until the credential changes.
        """
        ...

    def fingerprint(self) -> object:
        """Return a value that differs when the credential's files have changed; costs microseconds."""
        ...
