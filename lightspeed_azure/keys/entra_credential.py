"""One of our identities as a credential for Azure's own clients."""

from typing import Any

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.lifetime import Token


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
