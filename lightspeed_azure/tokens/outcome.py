"""What one call of a token source comes to: a token or an error, and never an exception."""

from collections.abc import Callable

from lightspeed_azure.errors import (
    CredentialRejectedError,
    InvalidConfigurationError,
    TokenError,
    TokenUnavailableError,
)
from lightspeed_azure.tokens.source import Attempt, IssuedToken, TokenSource

_CHECK_THE_NETWORK = "Check the network and the proxy between here and the authority"


def outcome_of(source: TokenSource, attempt: Attempt, name: str) -> IssuedToken | TokenError:
    """Ask `source`; whatever it raises comes back as an error that is safe to show."""
    try:
        issued = source(attempt)
        # Every field is touched here, where a mistake is still the source's.
        if not issued.secret.get_secret_value():
            return TokenUnavailableError(f"The source of the token for {name} gave an empty one")
        refresh_in = None if issued.refresh_in is None else float(issued.refresh_in)
        return IssuedToken(issued.secret, float(issued.expires_in), refresh_in)
    except TokenError as error:
        return _detached(error)
    except InvalidConfigurationError as error:
        return CredentialRejectedError(str(error))  # its text is ours, and holds no secret
    except BaseException as error:  # noqa: BLE001  # whatever it is, somebody waits
        return _named(error, f"The source of the token for {name} broke down")


def outcome_of_launch(launch: Callable[[], None]) -> TokenError | None:
    """Start a thread by `launch`; return an error when none is to be had."""
    try:
        launch()
    except Exception as error:  # noqa: BLE001  # a failure like any other, and somebody waits
        return _named(error, "A request for a token could not be started")
    return None


def overdue(name: str, deadline: float, hang: tuple[str, str] | None) -> TokenError:
    """Return the error of a request that was not answered within `deadline` seconds.

    Args:
        name: of the cache.
        deadline: seconds.
        hang: what has not returned, and the cure; None when only the network can be why.
    """
    return _hung(f"No answer about a token for {name} within {deadline:g} s", hang, None)


def hanging(
    name: str, requests: int, hang: tuple[str, str] | None, retry_after: float
) -> TokenError:
    """Return the error while so many requests hang that no more are started."""
    return _hung(f"{requests} requests for a token for {name} hang", hang, retry_after)


def _hung(text: str, hang: tuple[str, str] | None, retry_after: float | None) -> TokenError:
    what, cure = hang or ("", _CHECK_THE_NETWORK)
    return TokenUnavailableError(
        f"{text}: {what}" if what else text, cure=cure, retry_after=retry_after
    )


def _detached(error: TokenError) -> TokenError:
    """Return the same error without the frames and the causes that it came with."""
    try:
        return error.replica()
    except Exception as broken:  # noqa: BLE001  # a foreign subclass with another constructor
        return _named(broken, f"{type(error).__name__} cannot be passed on")


def _named(error: BaseException, text: str) -> TokenError:
    """Return an error that names only the class: a message that is not ours may hold a secret."""
    return TokenUnavailableError(f"{text} ({type(error).__name__})")
