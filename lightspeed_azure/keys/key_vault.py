"""The resolver `keyvault`: keys out of an Azure Key Vault, signed in to as everything else here.

https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
"""

import importlib.util
import re
from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock, importing, reset_in_child
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.key_vault import KeyVaultConfiguration
from lightspeed_azure.config.template import filled
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    ResolverUnavailableError,
    TokenError,
)
from lightspeed_azure.keys import Answer, Pass, Question
from lightspeed_azure.keys.location import Places, check_names
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.lifetime import Token
from lightspeed_azure.tokens.manager import AzureEntraIDManager


class EntraCredential:
    """An azure-core `TokenCredential` for one scope, with our token cache behind it.

    Its tokens are for that scope, whatever a service asks for in its challenge.

    Args:
        identity: how to sign in.
        scope: such as "https://vault.azure.net/.default".
    """

    def __init__(self, identity: AzureEntraIdConfiguration, scope: str) -> None:
        block = identity.model_copy(update={"scope": scope})
        self.scope = scope
        source = credential_source(block)
        self._cache = TokenCache(source, name=scope, deadline=block.deadline, hang=source.hang)
        self._last: Token | None = None

    def __repr__(self) -> str:
        return f"EntraCredential(scope={self.scope!r})"

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """Return azure-core's `AccessToken`; may wait, at most the identity's `deadline`.

        Args:
            scopes: of the challenge, which does not choose.
            **options: of the challenge (tenant, claims), likewise.

        Raises:
            TokenError: no token can be had.
        """
        del scopes, options
        from azure.core.credentials import AccessToken  # noqa: PLC0415 - 0.2 s

        self._last = self._cache.get()
        return AccessToken(self._last.secret.get_secret_value(), int(self._last.expires_on))

    def accepted(self) -> None:
        """Note that the last token was accepted."""
        if self._last is not None:
            self._cache.accepted(self._last)

    def refused(self) -> None:
        """Say that the last token was refused: the next one is a new one."""
        if self._last is not None:
            self._cache.invalidate(self._last.secret)


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


_SCOPES = {
    "public": "https://vault.azure.net/.default",
    "us_government": "https://vault.usgovcloudapi.net/.default",
    "china": "https://vault.azure.cn/.default",
}

_LONGEST_NAME = 127


class KeyVaultResolver:
    """Answers with the secret of the name that the template gives; passes where there is none.

    Signs in with an identity of `azure_entra_id`. Safe for any number of threads. Nothing is sent
    before the first question.

    Args:
        options: the vault, and what its secrets are called.
        identities: of the configuration; the process-wide manager's when there are none.
    """

    name = "keyvault"

    def __init__(
        self,
        options: KeyVaultConfiguration,
        identities: Sequence[AzureEntraIdConfiguration] = (),
    ) -> None:
        self._options = KeyVaultConfiguration.from_object(options)
        self._identities = tuple(identities)
        self._places = Places()
        self._lock = ForkLock()  # guards the next one
        self._client: KeyVaultClient | None = None
        self._parents: list[KeyVaultClient] = []  # not closed: the parent uses their connections
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"KeyVaultResolver(url={self._options.url!r})"

    def after_fork(self) -> None:
        """Open connections of its own in a forked child."""
        if self._client is not None:
            self._parents.append(self._client)
            self._client = None

    def before(self, question: Question) -> Answer | Pass:
        """Read the secret.

        Raises:
            ResolverUnavailableError: Key Vault refuses, throttles, or cannot be reached.
            InvalidConfigurationError: there is no identity to sign in with.
        """
        check_names(question)
        name = self.secret_name(question)
        self._places.claim(name.lower(), question)  # Key Vault tells no case apart
        version = self._options.versions.get(name, "")
        value = self._ready().read(name, version, timeout=question.timeout or 5.0)
        if value is None:
            return Pass(f"Key Vault has no secret {name}")
        return Answer(value.get_secret_value().strip("\r\n"))

    def secret_name(self, question: Question) -> str:
        """Return the name of the secret that holds the answer; underscores become hyphens."""
        names = {"provider_id": question.provider_id, "field": question.field}
        name = filled(self._options.secret_name, **names)
        return re.sub(r"[^A-Za-z0-9-]", "-", name)[:_LONGEST_NAME]

    def _ready(self) -> KeyVaultClient:
        with self._lock:
            if self._client is None:
                identity = self._identity()
                scope = self._options.scope or _SCOPES[identity.cloud]
                credential = EntraCredential(identity, scope)
                self._client = KeyVaultClient(self._options, credential)
            return self._client

    def _identity(self) -> AzureEntraIdConfiguration:
        wanted = self._options.identity
        there = self._identities or tuple(
            identity.config for identity in AzureEntraIDManager().identities
        )
        for one in there:
            if wanted in (None, one.provider_id):
                return one
        which = f"none with provider_id: {wanted}" if there else "none is configured"
        raise InvalidConfigurationError(
            f"keyvault signs in with an identity of azure_entra_id, and there is {which}; add one"
        )
