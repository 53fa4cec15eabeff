"""The ways to sign in: `KINDS` has one entry for each.

To add a kind, add its key to `AzureEntraIdConfiguration` and its entry to `KINDS`. Nothing here
imports azure.identity: the functions that build a credential get the module as an argument.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any

from pydantic import SecretBytes

from lightspeed_azure.config.certificate import certificate_check, expiry
from lightspeed_azure.config.custom_credential import hang_of_custom, make_custom
from lightspeed_azure.errors import CredentialRejectedError, TokenError, TokenUnavailableError
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.secrets import SecretFile

if TYPE_CHECKING:
    from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration as Config

TROUBLESHOOTING = "https://learn.microsoft.com/azure/developer/python/sdk/authentication"
NETWORK = "https://learn.microsoft.com/azure/developer/python/sdk/azure-sdk-configure-proxy"
MANAGED_IDENTITY = (
    "https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/known-issues"
)

CLIENT_SECRET_NAME = "client_secret"  # noqa: S105 - the name of a file
"""The file in a directory that `client_secret_path` names."""

_IMDS = "http://169.254.169.254"
_ENDPOINTS = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
"""The variables that may hold a managed-identity endpoint, in azure-identity's order."""

_APPLICATION = {"tenant_id": "AZURE_TENANT_ID", "client_id": "AZURE_CLIENT_ID"}

type Build = Callable[[Any, "Config", SecretBytes | None, float, dict[str, Any]], Any]
"""Builds an azure-core `TokenCredential`.

The arguments are the module azure.identity (None if the kind does not need it), the identity, the
content of its file (None if it has none), the seconds that a command may take, and the keyword
arguments for those of azure-identity's credentials that send requests.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKind:
    """One way to sign in.

    Attributes:
        key: the key of the block that chooses this kind.
        name: the name in logs and reports. Two kinds that differ only in where the secret is
            stored have the same name.
        build: builds the credential.
        description: how the log describes an identity; may name {label} and {config.…}.
        needs_azure: whether `build` needs azure.identity. Otherwise the credential is not
            azure-identity's, and what it asks is not known.
        is_kept: whether the credential object is kept, or built again for each token. A new object
            bypasses the caches of azure-identity and MSAL. A kind with a file builds a new one, so
            that rotated files are read.
        replays: whether a kept credential repeats tokens and refusals from a cache of its own, so
            that only a new one gives a new answer.
        required: the keys that this kind needs, each with the environment variable for it.
        variable: the environment variable for `key`, "" if there is none. It holds the secret
            itself if there is no file.
        options: the keys that belong to this kind alone, each with the environment variable that
            counts where `variable` chose the kind.
        excluded: keys that must not be given with this kind, each with the text of the problem.
        file_name: the name of the file if `key` names a directory; "" if `key` names no file.
        check: returns the check for the content of the file.
        is_binary: whether the file is not text.
        is_assertion: whether the file holds a JWT, whose claims help to find a mistake.
        endpoint: returns the URL of the service on this machine that issues the tokens; None if
            Entra ID does.
        is_chain: whether several credentials are tried, so that only an answer of the authority
            says why there is no token.
        service: what issues the tokens, for messages.
        link: the page about connecting to it.
        explain: returns the error of this kind, or None if nothing special is known. Takes the
            identity, the exception and the HTTP status, None if the service did not answer.
        detail: returns what the file's content says about a refusal, such as an expired
            certificate. Takes the identity, the content and the time in POSIX seconds.
        hang: returns why a call may not return, and the cure. Takes the identity and whether the
            credential has been built. None if only the network can be the reason.
    """

    key: str
    name: str
    build: Build
    description: str = (
        "{label}, application {config.client_id}, tenant {config.tenant_id}, "
        "at {config.authority_host}"
    )
    needs_azure: bool = True
    is_kept: bool = False
    replays: bool = False
    required: Mapping[str, str] = field(default_factory=dict)
    variable: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    file_name: str = ""
    check: Callable[["Config"], Callable[[bytes], None] | None] = lambda _: None
    is_binary: bool = False
    is_assertion: bool = False
    endpoint: Callable[[], str] | None = None
    is_chain: bool = False
    service: str = "Entra ID at {config.authority_host}"
    link: str = NETWORK
    explain: Callable[["Config", BaseException, int | None], TokenError | None] = lambda *_: None
    detail: Callable[["Config", bytes, float], str] = lambda *_: ""
    hang: Callable[["Config", bool], tuple[str, str] | None] = lambda *_: None

    def secret_file(self, config: "Config") -> SecretFile | None:
        """Return the file that an identity of this kind signs in with, or None."""
        path: Path | None = getattr(config, self.key)
        if not self.file_name or path is None:
            return None
        return SecretFile(
            path,
            default_name=self.file_name,
            key=self.key,
            check=self.check(config),
            binary=self.is_binary,
        )


# Applications


def _application(config: "Config", options: dict[str, Any]) -> dict[str, Any]:
    ids = {"tenant_id": str(config.tenant_id), "client_id": str(config.client_id)}
    return {**ids, **_at_authority(config, options)}


def _at_authority(config: "Config", options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a credential that sends requests to the authority."""
    options = {**options, "authority": config.authority_host}
    if config.is_private_authority:
        options["disable_instance_discovery"] = True
    if config.ca_bundle:
        options["connection_verify"] = str(config.ca_bundle)
    return options


def _client_secret(
    azure: Any, config: "Config", content: SecretBytes | None, _: float, options: dict[str, Any]
) -> Any:
    inline = config.client_secret.get_secret_value() if config.client_secret else ""
    return azure.ClientSecretCredential(
        client_secret=content.get_secret_value().decode() if content else inline,
        **_application(config, options),
    )


def _certificate(
    azure: Any, config: "Config", content: SecretBytes | None, _: float, options: dict[str, Any]
) -> Any:
    password = config.certificate_password
    return azure.CertificateCredential(
        certificate_data=content.get_secret_value() if content else None,
        password=password.get_secret_value() if password else None,
        send_certificate_chain=config.send_certificate_chain,
        **_application(config, options),
    )


def _assertion(
    azure: Any, config: "Config", content: SecretBytes | None, _: float, options: dict[str, Any]
) -> Any:
    return azure.ClientAssertionCredential(
        func=lambda: content.get_secret_value().decode() if content else "",
        **_application(config, options),
    )


def _check_assertion(content: bytes) -> None:
    """Refuse what cannot be a signed JWT: three parts, none empty (RFC 7515)."""
    parts = content.split(b".")
    if len(parts) != 3 or not all(parts) or len(content.split()) != 1:
        raise ValueError("holds no signed JWT, or only part of one; write the assertion into it")


def _expired(config: "Config", content: bytes, now: float) -> str:
    try:
        end = expiry(content, config.certificate_password)
    except ValueError:
        return ""
    return f"it expired on {end:%Y-%m-%d}" if end.timestamp() < now else ""


# Managed identity


def _managed_identity(
    azure: Any, config: "Config", _: SecretBytes | None, _timeout: float, options: dict[str, Any]
) -> Any:
    which = config.managed_identity
    given = which.model_dump(exclude_none=True) if which else {}
    return azure.ManagedIdentityCredential(
        client_id=given.pop("client_id", None),
        identity_config=given or None,
        # The block chooses managed identity, so the variables of workload identity do not count.
        _exclude_workload_identity_credential=True,
        **options,
    )


def _endpoint() -> str:
    return next(filter(None, map(os.environ.get, _ENDPOINTS)), _IMDS)


def _no_managed_identity(
    config: "Config", error: BaseException, status: int | None
) -> TokenError | None:
    if status == 400:
        return CredentialRejectedError(
            f"This machine has no managed identity ({config.managed_identity})",
            cure="Assign the identity to it, or correct managed_identity",
            link=MANAGED_IDENTITY,
        )
    if status is not None:
        return None
    failure = network_failure(error)
    return TokenUnavailableError(
        f"The managed-identity endpoint {shown(_endpoint())} cannot be reached"
        + (f": {failure.words}" if failure else ""),
        cure="Not on Azure? Choose another kind of credential; on Azure, allow 169.254.169.254",
        link=MANAGED_IDENTITY,
    )


# The Azure CLI and azure-identity's default chain


def _azure_cli(
    azure: Any, config: "Config", _: SecretBytes | None, timeout: float, _options: dict[str, Any]
) -> Any:
    return azure.AzureCliCredential(
        tenant_id=config.tenant_id or "", process_timeout=max(1, int(timeout))
    )


def _no_azure_cli(config: "Config", error: BaseException, status: int | None) -> TokenError | None:
    del config, status
    slow: BaseException | None = error
    while slow is not None and not isinstance(slow, TimeoutExpired):
        slow = slow.__cause__ or slow.__context__
    what, cure = "The Azure CLI gave no token", "Try: az account get-access-token"
    if slow is not None:
        what = f"The Azure CLI took longer than {slow.timeout:.0f} s"
        cure = "Raise deadline, or see why it is slow: az account get-access-token"
    elif "Azure CLI not found" in str(error):
        what, cure = "The Azure CLI is not installed", "Install it, then: az login"
    elif "az login" in str(error):
        what, cure = "The Azure CLI is not signed in", "Sign in: az login"
    return TokenUnavailableError(what, cure=cure, link=TROUBLESHOOTING)


def _default(
    azure: Any, config: "Config", _: SecretBytes | None, _timeout: float, options: dict[str, Any]
) -> Any:
    named = {"managed_identity_client_id": config.client_id} if config.client_id else {}
    return azure.DefaultAzureCredential(
        # Three command-line tools may be asked in turn.
        process_timeout=max(1, int(config.deadline / 3)),
        **named,
        **_at_authority(config, options),
    )


def _none_of_the_chain(
    config: "Config", error: BaseException, status: int | None
) -> TokenError | None:
    del config
    if status is not None or network_failure(error):
        return None
    return TokenUnavailableError(
        "None of the ways that azure-identity tries gave a token",
        cure="Sign in with az login, or name one kind of credential in the block",
        link=TROUBLESHOOTING,
    )


# Custom credentials


def _custom(
    _: Any,
    config: "Config",
    _content: SecretBytes | None,
    _timeout: float,
    _options: dict[str, Any],
) -> Any:
    return make_custom(str(config.credential))


def _custom_failure(config: "Config", error: BaseException, _: int | None) -> TokenError:
    failure = network_failure(error)
    words = f" ({failure.words})" if failure and failure.kind != "unreachable" else ""
    return TokenUnavailableError(
        f"The credential {config.credential} failed with {type(error).__name__}{words}",
        cure="Call the custom credential alone",
        link=TROUBLESHOOTING,
    )


KINDS: dict[str, CredentialKind] = {
    kind.key: kind
    for kind in (
        CredentialKind(
            key="client_secret",
            name="client_secret",
            build=_client_secret,
            required=_APPLICATION,
            variable="AZURE_CLIENT_SECRET",
        ),
        CredentialKind(
            key="client_secret_path",
            name="client_secret",
            build=_client_secret,
            required=_APPLICATION,
            file_name=CLIENT_SECRET_NAME,
        ),
        CredentialKind(
            key="certificate_path",
            name="certificate",
            build=_certificate,
            required=_APPLICATION,
            variable="AZURE_CLIENT_CERTIFICATE_PATH",
            options={
                "certificate_password": "AZURE_CLIENT_CERTIFICATE_PASSWORD",
                "send_certificate_chain": "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
            },
            file_name="tls-combined.pem",  # as cert-manager names it
            check=lambda config: certificate_check(config.certificate_password),
            is_binary=True,
            detail=_expired,
        ),
        CredentialKind(
            key="federated_token_file",
            name="federated_token_file",
            build=_assertion,
            required=_APPLICATION,
            variable="AZURE_FEDERATED_TOKEN_FILE",
            file_name="azure-identity-token",  # as AKS names it
            check=lambda _: _check_assertion,
            is_assertion=True,
        ),
        CredentialKind(
            key="managed_identity",
            name="managed_identity",
            build=_managed_identity,
            description="managed identity ({config.managed_identity})",
            is_kept=True,
            replays=True,
            excluded={
                "client_id": "does not choose a managed identity; "
                "write managed_identity: {client_id: …}"
            },
            endpoint=_endpoint,
            service="The managed-identity endpoint",
            link=MANAGED_IDENTITY,
            explain=_no_managed_identity,
        ),
        CredentialKind(
            key="azure_cli",
            name="azure_cli",
            build=_azure_cli,
            description="the Azure CLI",
            explain=_no_azure_cli,
        ),
        CredentialKind(
            key="default",
            name="default",
            build=_default,
            description="azure-identity's default chain",
            is_kept=True,
            is_chain=True,
            explain=_none_of_the_chain,
        ),
        CredentialKind(
            key="credential",
            name="credential",
            build=_custom,
            description="credential {config.credential}",
            needs_azure=False,
            is_kept=True,
            explain=_custom_failure,
            hang=lambda config, is_built: hang_of_custom(str(config.credential), is_built=is_built),
        ),
    )
}
"""The kinds by the key that chooses them, in the order in which azure-identity asks for their variables."""
