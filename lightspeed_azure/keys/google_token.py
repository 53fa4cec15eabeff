"""Access tokens of Google, through google-auth; the only file that imports it.

A service account signs an assertion with its key (RFC 7523); an authorised user has a refresh
token (RFC 6749, section 6). Both are asked for at the `token_uri` that the credential names.
"""

import datetime as dt
import functools
import importlib.util
import json
import re
import warnings
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config.llama_stack import is_loopback
from lightspeed_azure.errors import (
    CredentialRejectedError,
    InvalidConfigurationError,
    TokenError,
    TokenUnavailableError,
)
from lightspeed_azure.network_failure import network_failure
from lightspeed_azure.tokens.source import Attempt, IssuedToken

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""What Vertex AI asks for (https://cloud.google.com/vertex-ai/docs/authentication)."""

_PERMANENT = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "invalid_scope"})


def check_installed() -> None:
    """Make sure that google-auth is there.

    Raises:
        InvalidConfigurationError: it is not.
    """
    try:
        found = importlib.util.find_spec("google.auth")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise InvalidConfigurationError(
            "source: google needs google-auth, which is not installed; "
            "pip install 'lightspeed-azure[vertex]'"
        )


class GoogleTokenSource:
    """Asks Google for an access token.

    Args:
        content: the JSON of the credential.
        digest: tells one credential from another.
    """

    def __init__(self, content: bytes, digest: str) -> None:
        self._content = SecretStr(content.decode())
        self._digest = digest

    def __repr__(self) -> str:
        return "GoogleTokenSource()"

    def fingerprint(self) -> object:
        """Return what names this credential; another file makes another source."""
        return self._digest

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Ask for a token; may block.

        Raises:
            TokenUnavailableError: passing.
            CredentialRejectedError: Google refuses the credential, or it is not whole.
        """
        with importing("google.auth"):
            import google.auth.exceptions as problems  # noqa: PLC0415 - optional, and slow
            import google.oauth2.credentials  # noqa: PLC0415 - used by `_credentials`
            import google.oauth2.service_account  # noqa: F401, PLC0415 - likewise
            import requests  # noqa: PLC0415 - likewise
            from google.auth.transport.requests import Request  # noqa: PLC0415 - likewise

        failure: TokenError
        with requests.Session() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # google-auth tells of Pythons that end
            # A redirect would take the assertion along, to whatever host it names.
            send = functools.partial(
                Request(session),
                timeout=attempt.timeout,
                allow_redirects=False,
            )
            try:
                credentials = self._credentials()
                credentials.refresh(send)
                left = credentials.expiry - dt.datetime.now(dt.UTC).replace(tzinfo=None)
                return IssuedToken(SecretStr(str(credentials.token)), left.total_seconds())
            except problems.RefreshError as error:
                failure = _refusal(error)
            except problems.TransportError as error:
                failure = _unreachable(error)
            except (problems.GoogleAuthError, ValueError, TypeError, LookupError):
                failure = CredentialRejectedError(
                    "The Google credential is not whole", cure="Write the file again"
                )
        raise failure

    def _credentials(self) -> Any:
        info = json.loads(self._content.get_secret_value())
        url = urlsplit(str(info.get("token_uri") or "https://oauth2.googleapis.com/token"))
        if url.scheme != "https" and not is_loopback(url.hostname or ""):
            raise ValueError
        if info["type"] == "authorized_user":
            from google.oauth2.credentials import Credentials  # noqa: PLC0415 - optional

            return Credentials(  # type: ignore[no-untyped-call]
                None,
                refresh_token=info["refresh_token"],
                client_id=info["client_id"],
                client_secret=info["client_secret"],
                token_uri=url.geturl(),
                scopes=[SCOPE],
            )
        from google.oauth2 import service_account  # noqa: PLC0415 - optional

        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            info, scopes=[SCOPE]
        )


def _unreachable(error: Exception) -> TokenError:
    reason = network_failure(error)
    words = f": {reason.words}" if reason else ""
    return TokenUnavailableError(f"Google cannot be asked for a token{words}")


def _refusal(error: Exception) -> TokenError:
    """Return our error for Google's; of its answer only the code is kept (RFC 6749, section 5.2)."""
    answer = error.args[1] if len(error.args) > 1 else None
    code = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(code, str) or not re.fullmatch(r"[a-z_]{1,40}", code):
        code = ""
    if code in _PERMANENT:
        return CredentialRejectedError(
            f"Google refuses the credential ({code})",
            cure="Check that its key, or its refresh token, has not been revoked",
            code=code,
        )
    said = f" ({code})" if code else ""
    return TokenUnavailableError(f"Google gave no token{said}", code=code)
