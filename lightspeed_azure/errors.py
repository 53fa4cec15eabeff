"""Everything this package raises on purpose.

::

    LightspeedAzureError
    ├── InvalidConfigurationError   (also ValueError)   what the operator wrote cannot work
    ├── TokenError                                      no token can be had
    │   ├── TokenUnavailableError                       passing: try again after `retry_after`
    │   │   └── KeyUnavailableError                     the key of another provider cannot be had
    │   └── CredentialRejectedError                     permanent until someone changes something
    ├── ProviderDataError           (also ValueError)   the caller's own provider data is not usable
    ├── CredentialResolutionError                       a resolver failed, and nothing may stand in for it
    ├── ResolverUnavailableError                        what a resolver itself raises, with words to show
    └── StackUnavailableError                           Llama Stack could not be reached or started

No message, attribute or chained cause of these holds a token, a secret or a password: whoever
raises one builds its text from names, codes and times only.
"""

import os
from pathlib import Path
from typing import Self


class LightspeedAzureError(Exception):
    """The root: `except LightspeedAzureError` catches all that this package raises on purpose."""


class InvalidConfigurationError(LightspeedAzureError, ValueError):
    """What the operator wrote cannot work; the text names the file, the key and the cure.

    Args:
        problems: one line a problem, each complete in itself.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class TokenError(LightspeedAzureError):
    """No usable token can be had.

    Attributes:
        message: what happened, without secrets.
        cure: one line on what to do, or "".
        code: the service's own code, such as "AADSTS7000215", or "".
        link: a page of Microsoft's that explains it, or "".
        retry_after: seconds after which asking again makes sense, or None when nothing is known.
    """

    permanent: bool = False
    """Whether asking again without a change of configuration is pointless."""

    def __init__(
        self,
        message: str,
        *,
        cure: str = "",
        code: str = "",
        link: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message}. {cure}" if cure else message)
        self.message = message
        self.cure = cure
        self.code = code
        self.link = link
        self.retry_after = retry_after

    def replica(self, *, retry_after: float | None = None) -> Self:
        """Return an equal error with a traceback of its own, for one waiter among many.

        Args:
            retry_after: seconds, when known better by now; otherwise the original's.
        """
        return type(self)(
            self.message,
            cure=self.cure,
            code=self.code,
            link=self.link,
            retry_after=self.retry_after if retry_after is None else retry_after,
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_token_error, (type(self), self.__dict__))


def _rebuild_token_error(kind: type[TokenError], fields: dict[str, object]) -> TokenError:
    """Unpickle: exceptions with keyword arguments do not do this by themselves."""
    error = kind(str(fields["message"]), cure=str(fields["cure"]))
    error.__dict__.update(fields)
    return error


class TokenUnavailableError(TokenError):
    """A token cannot be had just now (network, throttling, an outage, the deadline)."""


class KeyUnavailableError(TokenUnavailableError):
    """A key that `provider_credentials` names cannot be had just now; the request was not sent."""


class CredentialRejectedError(TokenError):
    """Entra ID refuses this credential; nothing but a change of configuration mends it."""

    permanent = True


class ProviderDataError(LightspeedAzureError, ValueError):
    """The provider data that the caller gave for one request is not usable; nothing was sent."""


class StackUnavailableError(LightspeedAzureError):
    """Llama Stack could not be reached, or did not start in time.

    Attributes:
        retry_after: seconds after which asking again makes sense.
    """

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialResolutionError(LightspeedAzureError):
    """A resolver gave no usable answer, and its `on_error` is `fail`.

    Attributes:
        resolver: the resolver's name.
        provider_id: the provider whose key was asked for; "" where none was named.
        field: the provider-data field; "" where none was named.
        reason: what went wrong, in one word, such as "timeout" or "line_break".
        retry_after: seconds after which asking again makes sense, or None when nothing is known.
    """

    def __init__(
        self,
        message: str,
        *,
        resolver: str = "",
        provider_id: str = "",
        field: str = "",
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.resolver = resolver
        self.provider_id = provider_id
        self.field = field
        self.reason = reason
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), self.args, self.__dict__)


class ResolverUnavailableError(LightspeedAzureError):
    """What a resolver raises to say in its own words why there is no answer.

    The text is shown to people, so it holds no secret; of any other exception that leaves a
    resolver only the class is shown.

    Attributes:
        retry_after: seconds for which not to ask again, or None.
        down: whether what is behind the resolver is down, which counts for its breaker; else it is
            this one question that cannot be answered.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, down: bool = True
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.down = down

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), self.args, self.__dict__)


def shown_path(path: Path) -> str:
    """Return a path for a message, or "" if it may be a secret in the place of a path.

    A path is shown if it exists, or if it is absolute and begins with a directory that exists.
    """
    is_likely = path.is_absolute() and len(path.parts) > 2 and os.path.lexists(path.parents[-2])
    return str(path) if is_likely or os.path.lexists(path) else ""
