"""The resolver `keyvault`: keys out of an Azure Key Vault, signed in to as everything else here.

https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
"""

import re
from collections.abc import Sequence

from lightspeed_azure.concurrency.fork import ForkLock, reset_in_child
from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.config.vaults import KeyVaultConfiguration, filled
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys import Answer, Pass, Question
from lightspeed_azure.keys.entra_credential import EntraCredential
from lightspeed_azure.keys.key_vault_client import KeyVaultClient
from lightspeed_azure.keys.location import Places, check_names
from lightspeed_azure.tokens.manager import AzureEntraIDManager

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
