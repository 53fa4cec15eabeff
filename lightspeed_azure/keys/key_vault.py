"""The resolver `keyvault`: keys from an Azure Key Vault, signed in to with our own identities.

The only file that imports azure-keyvault-secrets.
https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret
"""

import importlib.util
import re
from collections.abc import Sequence
from typing import Any

from lightspeed_azure.concurrency.fork import ForkLock, importing, reset_in_child
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.vaults import KeyVaultConfiguration, filled
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    ResolverUnavailableError,
    TokenError,
)
from lightspeed_azure.keys.hook_call import Answer, HookCall, Pass
from lightspeed_azure.keys.location import Places, names_in
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.lifetime import Token
from lightspeed_azure.tokens.manager import AzureEntraIDManager

_SCOPES = {
    "public": "https://vault.azure.net/.default",
    "us_government": "https://vault.usgovcloudapi.net/.default",
    "china": "https://vault.azure.cn/.default",
}

_LONGEST_NAME = 127

_FORBIDDEN_PAUSE = 10.0
"""Seconds for which a forbidden secret is not asked for again."""


class EntraCredential:
    """An azure-core `TokenCredential` for one scope, backed by our token cache.

    Its tokens are for that scope, whatever a service's challenge asks for.

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
            scopes: of the challenge; ignored.
            **options: of the challenge (tenant, claims); ignored.

        Raises:
            TokenError: there is no token.
        """
        del scopes, options
        from azure.core.credentials import AccessToken  # noqa: PLC0415 - 0.2 s

        self._last = self._cache.get()
        return AccessToken(self._last.secret.get_secret_value(), int(self._last.expires_on))

    def accepted(self) -> None:
        """Note that the last token was accepted."""
        if self._last is not None:
            self._cache.accepted(self._last)

    def invalidate(self) -> None:
        """Replace the last token, which was refused."""
        if self._last is not None:
            self._cache.invalidate(self._last.secret)


class KeyVaultResolver:
    """Answers with the secret whose name the template gives; passes if there is none.

    Signs in with an identity of `azure_entra_id`. Safe for any number of threads. Sends nothing
    before the first call.

    Args:
        options: the vault, and the names of its secrets.
        identities: of the configuration; by default those of the process-wide manager.
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
        self._client: tuple[Any, EntraCredential] | None = None
        self._parents: list[Any] = []  # not closed: the parent uses their connections
        reset_in_child(self)

    def __repr__(self) -> str:
        return f"KeyVaultResolver(url={self._options.url!r})"

    def after_fork(self) -> None:
        """Open new connections in a forked child."""
        if self._client is not None:
            self._parents.append(self._client)
            self._client = None

    def before(self, call: HookCall) -> Answer | Pass:
        """Read the secret.

        Raises:
            ResolverUnavailableError: Key Vault refuses, throttles, or cannot be reached.
            InvalidConfigurationError: there is no identity to sign in with.
        """
        name = self.secret_name(call)
        self._places.claim(name.lower(), call)  # names are case-insensitive
        timeout = call.timeout or 5.0
        client, credential = self._connected()
        error: LightspeedAzureError
        try:
            bundle = client.get_secret(
                name,
                self._options.versions.get(name, ""),
                connection_timeout=timeout,
                read_timeout=timeout,
            )
            credential.accepted()
            if bundle.value is not None:
                return Answer(bundle.value.strip("\r\n"))
            return Pass(f"Key Vault has no secret {name}")
        except TokenError as fault:
            error = ResolverUnavailableError(f"no token: {fault}", retry_after=fault.retry_after)
        except LightspeedAzureError as fault:
            error = fault
        except Exception as fault:  # noqa: BLE001 - translated, without its text
            status = getattr(fault, "status_code", None)
            if status == 404:
                return Pass(f"Key Vault has no secret {name}")
            if status == 401:
                credential.invalidate()
            error = _of_status(fault, status, name) if status else self._of_transport(fault)
        raise error

    def secret_name(self, call: HookCall) -> str:
        """Return the name of the secret; underscores and dots become hyphens."""
        name = filled(self._options.secret_name, **names_in(call))
        return re.sub(r"[^A-Za-z0-9-]", "-", name)[:_LONGEST_NAME]

    def _connected(self) -> tuple[Any, EntraCredential]:
        with self._lock:
            if self._client is None:
                identity = self._identity()
                scope = self._options.scope or _SCOPES[identity.cloud]
                credential = EntraCredential(identity, scope)
                self._client = _secret_client(self._options, credential), credential
            return self._client

    def _identity(self) -> AzureEntraIdConfiguration:
        wanted = self._options.identity
        known = self._identities or tuple(
            identity.config for identity in AzureEntraIDManager().identities
        )
        for one in known:
            if wanted in (None, one.provider_id):
                return one
        which = f"none with provider_id: {wanted}" if known else "none is configured"
        raise InvalidConfigurationError(
            f"keyvault signs in with an identity of azure_entra_id, and there is {which}; add one"
        )

    def _of_transport(self, fault: Exception) -> ResolverUnavailableError:
        failure = network_failure(fault)
        if failure is not None:
            cure = failure.cure(url_key="url", ca_key="ca_bundle")
            text = f"Key Vault cannot be reached at {shown(self._options.url)}: {failure.words}"
            return ResolverUnavailableError(f"{text}. {cure}")
        if isinstance(fault, ValueError):
            text = (
                "Key Vault's challenge is not for its own host; check url, and what answers there"
            )
            return ResolverUnavailableError(text)
        return ResolverUnavailableError(f"Key Vault's client raised {type(fault).__name__}")


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
        # Only the resolver's breaker and time limit count.
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
        return ResolverUnavailableError(text, down=False, retry_after=_FORBIDDEN_PAUSE)
    if status == 429:
        asked = fault.response.headers.get("Retry-After", "") if fault.response else ""
        after = float(asked) if asked.isdigit() else 1.0
        return ResolverUnavailableError("Key Vault has too many requests (429)", retry_after=after)
    return ResolverUnavailableError(f"Key Vault answers with HTTP {status} {code}".rstrip())
