"""Reads secrets of an Azure Key Vault; the only file that imports azure-keyvault-secrets.

https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

import importlib.util
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config.vaults import KeyVaultConfiguration
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    ResolverUnavailableError,
    TokenError,
)
from lightspeed_azure.keys.entra_credential import EntraCredential

_REFUSED_PAUSE = 10.0
"""Seconds for which a secret that is refused is not asked for again."""


class KeyVaultClient:
    """Safe for any number of threads.

    Args:
        options: the vault.
        credential: signs in.
    """

    def __init__(self, options: KeyVaultConfiguration, credential: EntraCredential) -> None:
        self._credential = credential
        self._client = _secret_client(options, credential)

    def read(self, name: str, version: str, *, timeout: float) -> SecretStr | None:
        """Return a secret, None when there is none of this name (or no such version).

        Raises:
            ResolverUnavailableError: Key Vault refuses, throttles, or cannot be reached.
        """
        error: LightspeedAzureError
        try:
            bundle = self._client.get_secret(
                name, version, connection_timeout=timeout, read_timeout=timeout
            )
            self._credential.accepted()
            return None if bundle.value is None else SecretStr(bundle.value)
        except TokenError as fault:
            error = ResolverUnavailableError(f"no token: {fault}", retry_after=fault.retry_after)
        except LightspeedAzureError as fault:
            error = fault
        except Exception as fault:  # noqa: BLE001 - each becomes a typed one, without its text
            status = getattr(fault, "status_code", None)
            if status == 404:
                return None
            if status == 401:
                self._credential.refused()
            error = _of_status(fault, status, name) if status else _of_transport(fault)
        raise error


def _secret_client(options: KeyVaultConfiguration, credential: EntraCredential) -> Any:
    try:
        found = importlib.util.find_spec("azure.keyvault.secrets")
    except ModuleNotFoundError:
        found = None
    if found is None:
        text = "azure-keyvault-secrets is not installed: pip install 'lightspeed-azure[keyvault]'"
        raise InvalidConfigurationError(text)
    with importing("azure.keyvault.secrets"):
        from azure.core.pipeline.transport import RequestsTransport  # noqa: PLC0415
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415 - 0.4 s, on our own thread

    from lightspeed_azure.keys.bounded_adapter import bounded_session  # noqa: PLC0415

    return SecretClient(
        options.url,
        credential,
        verify_challenge_resource=options.verify_challenge_resource,
        transport=RequestsTransport(
            session=bounded_session(),
            connection_verify=str(options.ca_bundle) if options.ca_bundle else True,
        ),
        # The hook's breaker and time limit are the only ones.
        retry_total=0,
        permit_redirects=False,
    )


def _of_status(fault: Any, status: int, name: str) -> ResolverUnavailableError:
    code = str(getattr(getattr(fault, "error", None), "code", "") or "")
    if not code.isalnum():
        code = ""
    if status in (401, 403):
        cure = 'give the identity the role "Key Vault Secrets User", and see the network rules'
        text = f"Key Vault refuses to read {name} (HTTP {status} {code}); {cure}"
        return ResolverUnavailableError(text, down=False, retry_after=_REFUSED_PAUSE)
    if status == 429:
        asked = fault.response.headers.get("Retry-After", "") if fault.response else ""
        after = float(asked) if asked.isdigit() else 1.0
        return ResolverUnavailableError("Key Vault has too many requests (429)", retry_after=after)
    return ResolverUnavailableError(f"Key Vault answers with HTTP {status} {code}".rstrip())


def _of_transport(fault: Exception) -> ResolverUnavailableError:
    kind = type(fault).__name__
    if isinstance(fault, ValueError):
        text = "Key Vault's challenge is not for its own host; check url, and what answers there"
        return ResolverUnavailableError(text)
    if "CERTIFICATE_VERIFY_FAILED" in str(fault):
        text = "the certificate of Key Vault is not trusted; set ca_bundle to its issuer's"
        return ResolverUnavailableError(text)
    text = f"Key Vault cannot be reached ({kind}); check url, DNS and private endpoints"
    return ResolverUnavailableError(text)
