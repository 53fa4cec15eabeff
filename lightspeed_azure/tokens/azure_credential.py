"""azure-identity's credentials, as a configuration asks for them; the only file that imports it.

All of them retry nothing themselves, and report what goes over the wire to the current exchange.
"""

import contextlib
import importlib
import logging
from typing import Any, Protocol

from pydantic import SecretBytes

from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.tokens.exchange import hooks, is_watched

_LOG = logging.getLogger(__name__)


class Credential(Protocol):
    """What is needed of azure-core's `TokenCredential`."""

    def get_token(self, *scopes: str) -> Any:
        """Return an object with `token` and `expires_on`."""
        ...


_IMPORTED_LATER = (
    "azure.core.pipeline.transport._bigger_block_size_http_adapters",
    "azure.core.pipeline.transport._requests_basic",
    "azure.core.rest._requests_basic",
    "encodings.idna",
    "encodings.utf_8_sig",
    "jwt",
    "msal_extensions",
    "netrc",
)
"""What azure-identity and its dependencies import only at their first request."""


def import_azure() -> None:
    """Import azure.identity and everything that it needs to sign in, which takes 0.8 s."""
    try:
        _import()
    except ImportError:
        _LOG.exception("azure-identity is not installed")


def _import() -> None:
    with importing("azure.identity"):
        importlib.import_module("azure.identity")
        for name in _IMPORTED_LATER:
            with contextlib.suppress(ImportError):  # these names are the libraries' own
                importlib.import_module(name)
    _drop_repeats()


def _drop_repeats() -> None:
    """Keep azure.identity's warnings about our own sign-ins out of the log: our errors say more."""
    for name in list(logging.root.manager.loggerDict):
        # A chain's warning lists what each of its credentials said, which our error does not.
        if name.startswith("azure.identity") and not name.endswith("chained"):
            logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a record says more than the error that we raise and log ourselves."""
    repeats = record.levelno == logging.WARNING and is_watched()
    return not repeats or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def ask(credential: Credential, scope: str) -> Any:
    """Ask a credential for a token; `get_token` would drop `refresh_on`."""
    get_token_info = getattr(credential, "get_token_info", None)
    return get_token_info(scope) if get_token_info else credential.get_token(scope)


def close(credential: Credential) -> None:
    """Close a credential's connections, if it has any."""
    closing = getattr(credential, "close", None)
    if callable(closing):
        closing()


def new_credential(
    config: AzureEntraIdConfiguration, content: SecretBytes | None, *, timeout: float
) -> Credential:
    """Return a new credential of the identity's kind; uses no network, but a custom one may block.

    Args:
        config: the identity.
        content: the content of the credential's file, if it is in a file.
        timeout: seconds for a command to run; requests are bounded by the exchange.
    """
    kind = config.kind
    credential: Credential
    options = {"retry_total": 0, **hooks()}
    if not kind.needs_azure:
        credential = kind.build(None, config, content, timeout, options)
        return credential
    _import()
    from azure import identity  # noqa: PLC0415 - 0.8 s

    with importing("azure.identity"):  # its constructors import too
        credential = kind.build(identity, config, content, timeout, options)
    return credential
