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
    """Return a credential for one token: of an application, or of the Azure CLI.

    Args:
        config: the identity.
        content: of the file that holds the secret, certificate or assertion, if it is in a file.
        timeout: seconds for a command to run; requests are bounded by the exchange.
    """
    _import()
    from azure import identity  # noqa: PLC0415 - 0.8 s

    kind = config.credential_kind
    if kind == "azure_cli":
        return identity.AzureCliCredential(
            tenant_id=config.tenant_id or "", process_timeout=max(1, int(timeout))
        )
    ids = {"tenant_id": str(config.tenant_id), "client_id": str(config.client_id)}
    options = _options(config)
    if kind == "certificate":
        password = config.certificate_password
        return identity.CertificateCredential(
            **ids,
            certificate_data=content.get_secret_value() if content else None,
            password=password.get_secret_value() if password else None,
            send_certificate_chain=config.send_certificate_chain,
            **options,
        )
    inline = config.client_secret.get_secret_value() if config.client_secret else ""
    secret = content.get_secret_value().decode() if content else inline
    if kind == "federated_token_file":
        return identity.ClientAssertionCredential(**ids, func=lambda: secret, **options)
    return identity.ClientSecretCredential(**ids, client_secret=secret, **options)


def kept_credential(config: AzureEntraIdConfiguration) -> Credential:
    """Return a managed-identity or default credential, which has a cache of its own."""
    _import()
    from azure import identity  # noqa: PLC0415 - 0.8 s

    if config.credential_kind == "managed_identity":
        which = config.managed_identity
        given = which.model_dump(exclude_none=True) if which else {}
        return identity.ManagedIdentityCredential(
            client_id=given.pop("client_id", None),
            identity_config=given or None,
            # The block says managed identity; the variables of workload identity do not count.
            _exclude_workload_identity_credential=True,
            retry_total=0,
            **hooks(),
        )
    named = {"managed_identity_client_id": config.client_id} if config.client_id else {}
    return identity.DefaultAzureCredential(
        # Three command-line tools may be asked in turn.
        process_timeout=max(1, int(config.deadline / 3)),
        **named,
        **_options(config),
    )


def _options(config: AzureEntraIdConfiguration) -> dict[str, Any]:
    """Return what every credential that talks to the authority is given."""
    options: dict[str, Any] = {"authority": config.authority_host, "retry_total": 0, **hooks()}
    if config.is_private_authority:
        options["disable_instance_discovery"] = True
    if config.ca_bundle:
        options["connection_verify"] = str(config.ca_bundle)
    return options
