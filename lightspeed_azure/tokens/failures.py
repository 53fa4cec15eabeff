"""Why no token came, as an error that tells the cure.

No text is copied from an exception or from an answer: both can hold what must not be shown.
"""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from subprocess import TimeoutExpired
from urllib.parse import urlsplit

from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.errors import (
    CredentialRejectedError,
    TokenError,
    TokenUnavailableError,
    shown_path,
)
from lightspeed_azure.tokens.aadsts import MEANINGS, link
from lightspeed_azure.tokens.exchange import Answer, Exchange
from lightspeed_azure.tokens.network import proxy_variable

_TROUBLESHOOTING = "https://learn.microsoft.com/azure/developer/python/sdk/authentication"
_NETWORK = "https://learn.microsoft.com/azure/developer/python/sdk/azure-sdk-configure-proxy"
_THROTTLED = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes"
_MANAGED = (
    "https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/known-issues"
)
_IMDS = "http://169.254.169.254"
_ENDPOINTS = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
"""The variables with a managed-identity endpoint in them, in azure-identity's order; else it is IMDS."""

_MOMENT = re.compile(r"(?:expiry time of assertion |End=|expired on )(\d[\d/:T. -]{7,30}\d)")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    Attributes:
        config: the identity.
        exchange: what went over the wire.
        error: what azure-identity raised.
    """

    config: AzureEntraIdConfiguration
    exchange: Exchange
    error: BaseException = field(repr=False)

    def is_refusal_of_secret(self) -> bool:
        """Whether Entra ID refused the credential itself, so that another one may be accepted."""
        meaning = MEANINGS.get(self._code())
        answer = self.exchange.answer
        if answer is None or answer.status not in (400, 401):
            return False
        return meaning.secret if meaning else answer.error == "invalid_client"

    def to_error(self, *, detail: str = "") -> TokenError:
        """Return the typed error.

        Args:
            detail: what else is known, such as when the certificate expired.
        """
        answer = self._telling_answer()
        if proxied := self._of_proxied_endpoint(answer):
            return proxied
        if answer and (answer.status in (408, 410, 429) or answer.status >= 500):
            return _passing(self._service(), answer)
        if self._code():
            return self._of_code(self._code(), answer, detail)
        if answer and answer.status < 400:
            return TokenUnavailableError(
                f"{self._service()} sent no token, but an answer of another kind",
                cure="Check whether a proxy answers in its place",
                link=_NETWORK,
            )
        if self.config.credential_kind == "managed_identity":
            return self._of_managed_identity(answer)
        return self._of_status(answer) if answer else self._of_local()

    def _telling_answer(self) -> Answer | None:
        """Return the last answer; of a chain, only if the authority gave it, which ends the chain."""
        answer = self.exchange.answer
        is_chain = self.config.credential_kind == "default"
        if is_chain and answer and answer.origin.lower() != self.config.authority_host.lower():
            return None
        return answer

    def _code(self) -> str:
        """Return Entra ID's code, from the answer or, of a command-line tool, from its output."""
        answer = self._telling_answer()
        if answer:
            return answer.code
        found = re.search(r"AADSTS(\d{4,8})", str(self.error))
        return found.group(1) if found else ""

    def _service(self) -> str:
        if self.config.credential_kind == "managed_identity":
            return "The managed-identity endpoint"
        return f"Entra ID at {self.config.authority_host}"

    def _of_code(self, code: str, answer: Answer | None, detail: str) -> TokenError:
        """Return the error for one of Entra ID's codes, known or not."""
        meaning = MEANINGS.get(code)
        words = {
            "client": self.config.client_id or "of this identity",
            "tenant": self.config.tenant_id or "of this identity",
            "scope": self.config.scope,
            "authority": self.config.authority_host,
            "source": _source(self.config),
        }
        what = f"Entra ID refuses application {words['client']}"
        cure = (
            f"Check client_id, tenant_id, scope and {words['source']}; the link explains the code"
        )
        permanent = not answer or answer.error not in ("temporarily_unavailable", "server_error")
        if meaning:
            what, cure = meaning.what.format(**words), meaning.cure.format(**words)
            permanent = meaning.permanent
        moment = _MOMENT.search(answer.description) if answer else None
        if moment:
            detail = f"it ended {moment.group(1).strip()}"
        skew = answer.skew if answer else None
        if code == "700024" and skew is not None and abs(skew) > 240:
            way = "ahead of" if skew > 0 else "behind"
            detail = f"this machine's clock is {abs(skew):.0f} s {way} Entra ID's"
        what += f" ({detail})" if detail else ""
        kind = CredentialRejectedError if permanent else TokenUnavailableError
        return kind(
            f"{what} [AADSTS{code}]",
            cure=cure,
            code=f"AADSTS{code}",
            link=link(code),
            retry_after=answer.retry_after if answer else None,
        )

    def _of_status(self, answer: Answer) -> TokenError:
        """Return the error for an HTTP refusal without a code."""
        name = f" ({answer.error})" if re.fullmatch(r"[a-z_]+", answer.error) else ""
        if answer.error in ("invalid_client", "unauthorized_client", "invalid_scope"):
            return CredentialRejectedError(
                f"{self._service()} refuses the credential{name}",
                cure=f"Check client_id, tenant_id, scope and {_source(self.config)}",
                link=_TROUBLESHOOTING,
            )
        cure = "Wait: it is tried again"
        if self.config.credential_kind != "managed_identity":
            cure = "Check authority_host, and whether a proxy answers in its place"
        if answer.status == 407:
            cure = "Give the proxy's user name and password in HTTPS_PROXY"
        return TokenUnavailableError(
            f"{self._service()} answers with HTTP {answer.status}{name}",
            cure=cure,
            link=_MANAGED if self.config.credential_kind == "managed_identity" else _NETWORK,
            retry_after=answer.retry_after,
        )

    def _of_managed_identity(self, answer: Answer | None) -> TokenError:
        """Return the error for the endpoint that Azure gives its machines."""
        if answer and answer.status == 400:
            return CredentialRejectedError(
                f"This machine has no managed identity ({self.config.managed_identity})",
                cure="Assign the identity to it, or correct managed_identity",
                link=_MANAGED,
            )
        if answer and answer.is_json:
            return self._of_status(answer)
        return TokenUnavailableError(
            "The managed-identity endpoint cannot be reached",
            cure="Not on Azure? Choose another kind of credential; on Azure, allow 169.254.169.254",
            link=_MANAGED,
        )

    def _of_proxied_endpoint(self, answer: Answer | None) -> TokenError | None:
        """Return the error of a managed-identity endpoint that a proxy stands before, or None."""
        if self.config.credential_kind != "managed_identity" or (answer and answer.is_json):
            return None
        endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), _IMDS)
        variable = proxy_variable(endpoint)
        if not variable:
            return None
        host = urlsplit(endpoint).hostname
        return TokenUnavailableError(
            f"The managed-identity endpoint is asked through {variable}, and does not answer",
            cure=f"Add the endpoint to NO_PROXY: NO_PROXY={host}",
            link=_MANAGED,
        )

    def _of_local(self) -> TokenError:
        """Return the error of an attempt in which no service answered."""
        kind = self.config.credential_kind
        slow = next((one for one in _chain(self.error) if isinstance(one, TimeoutExpired)), None)
        if slow and kind == "azure_cli":
            return TokenUnavailableError(
                f"The Azure CLI took longer than {slow.timeout:.0f} s",
                cure="Raise deadline, or see why it is slow: az account get-access-token",
                link=_TROUBLESHOOTING,
            )
        reached = unreachable(self.error, self._service(), self.config)
        if reached:
            return reached
        text = str(self.error)
        ca_bundle = self.config.ca_bundle
        if ca_bundle and not os.path.isfile(ca_bundle):  # noqa: PTH113 - never raises
            what = f"{shown_path(ca_bundle) or 'The file of ca_bundle'} is gone"
            cure = "Bring it back, or correct ca_bundle"
        elif "Azure CLI not found" in text and kind == "azure_cli":
            what, cure = "The Azure CLI is not installed", "Install it, then: az login"
        elif "az login" in text and kind == "azure_cli":
            what, cure = "The Azure CLI is not signed in", "Sign in: az login"
        elif kind == "azure_cli":
            what, cure = "The Azure CLI gave no token", "Try: az account get-access-token"
        elif kind == "default":
            what = "None of the ways that azure-identity tries gave a token"
            cure = "Sign in with az login, or name one kind of credential in the block"
        else:
            what = f"The credential failed with {type(self.error).__name__}"
            cure = "Look into the log of azure.identity"
        return TokenUnavailableError(what, cure=cure, link=_TROUBLESHOOTING)


def _passing(service: str, answer: Answer) -> TokenError:
    """Return the error for a service that has too much to do, or is down."""
    if answer.status == 429:
        what, cure = f"{service} has too many requests (HTTP 429)", "Wait: it is tried again"
    else:
        what, cure = f"{service} is not well (HTTP {answer.status})", "Wait: it is tried again"
    return TokenUnavailableError(
        what,
        cure=cure,
        code=f"AADSTS{answer.code}" if answer.code else "",
        link=link(answer.code) or _THROTTLED,
        retry_after=answer.retry_after,
    )


def _source(config: AzureEntraIdConfiguration) -> str:
    """Return the key that holds the credential."""
    for key in ("client_secret_path", "certificate_path", "federated_token_file"):
        if getattr(config, key):
            return key
    return config.credential_kind


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was made of: causes, contexts, wrapped errors."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        named = (getattr(one, name, None) for name in ("inner_exception", "reason"))
        inner = (one.__cause__, one.__context__, *named, *one.args)
        waiting += [other for other in inner if isinstance(other, BaseException)]


def unreachable(
    error: BaseException, service: str, config: AzureEntraIdConfiguration
) -> TokenUnavailableError | None:
    """Return the error for a failed connection, or None when that was not the reason.

    Args:
        error: what azure-core or requests raised.
        service: what was asked, for the message.
        config: the identity.
    """
    found = list(_chain(error))
    names = {type(one).__name__ for one in found}
    if any(isinstance(one, ssl.SSLError) for one in found) or "SSLError" in names:
        what = f"The certificate of {config.authority_host} is not trusted"
        cure = "A private CA, or a proxy that inspects TLS? Set ca_bundle to its certificates"
        if not any(isinstance(one, ssl.SSLCertVerificationError) for one in found):
            what = f"No TLS connection to {config.authority_host} can be made"
            cure = "Check that authority_host speaks TLS, and what a proxy does in between"
    elif names & {"ProxyError"}:
        what, cure = "The proxy lets nothing through", "Check HTTPS_PROXY and NO_PROXY"
    elif any(isinstance(one, socket.gaierror) for one in found) or "NameResolutionError" in names:
        what = f"The name of {config.authority_host} cannot be resolved"
        cure = "Check authority_host, the DNS of this machine, and HTTPS_PROXY"
    elif any(isinstance(one, ConnectionRefusedError) for one in found):
        what = f"{service} refuses the connection"
        cure = "Check authority_host, firewalls and HTTPS_PROXY"
    elif any("Timeout" in name for name in names):
        what = f"{service} did not answer in time"
        cure = "Check firewalls and HTTPS_PROXY; deadline says how long to wait"
    elif names & {
        "ServiceRequestError",
        "ServiceResponseError",
        "IncompleteReadError",
        "ConnectionError",
    }:
        what = f"{service} broke off the connection"
        cure = "Check the network, firewalls and HTTPS_PROXY"
    else:
        return None
    return TokenUnavailableError(what, cure=cure, link=_NETWORK)
