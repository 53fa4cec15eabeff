"""AzureEntraIDManager: the process's Entra ID identities, configured once, read everywhere."""

import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Self

from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.errors import InvalidConfigurationError, TokenError
from lightspeed_azure.process_wide import ProcessWide
from lightspeed_azure.secrets import redacted
from lightspeed_azure.tokens.cache import CacheStatus, TokenCache
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.identity import Identity

_logger = logging.getLogger(__name__)

type _Entry = tuple[AzureEntraIdConfiguration, str]

_NOT_CONFIGURED = (
    "Azure Entra ID is not configured; add an azure_entra_id block to the configuration, "
    "or call set_config() first"
)


class AzureEntraIDManager(metaclass=ProcessWide):
    """Hands out Entra ID tokens that are always valid, and renews them before they expire.

    `AzureEntraIDManager()` is the process-wide instance; `isolated()` makes one apart. Safe to use
    from any thread and any number of event loops. Nothing is fetched before the first use, unless
    `prefetch` is configured. With several identities the properties without a `provider_id` speak
    for the first.
    """

    def __init__(self, **cache_options: Any) -> None:
        """Make an unconfigured manager.

        Args:
            cache_options: handed to every `TokenCache`: `clock`, `scheduler`, `launch`, `random`.
        """
        self._cache_options = cache_options
        self._identities: tuple[Identity, ...] = ()
        self._by_name: dict[str | None, Identity] = {}
        self._caches: dict[_Entry, TokenCache] = {}
        self._base_url: str | None = None

    @classmethod
    def isolated(cls, config: object = None, **cache_options: Any) -> Self:
        """Return an instance of its own, which shares nothing with the process-wide one.

        Args:
            config: what `set_config` takes.
            cache_options: see the constructor.

        Raises:
            InvalidConfigurationError: the configuration cannot work.
        """
        config = redacted(config)
        manager: Self = cls.build(**cache_options)
        manager.set_config(config)
        return manager

    # -- configuration -----------------------------------------------------------------------

    def set_config(self, config: object) -> None:
        """Configure the identities; asks Entra ID for nothing, unless `prefetch` says so.

        An identity that is the same as before keeps its token. azure-identity, which takes most of
        a second to import, is imported on a thread of its own.

        Args:
            config: an `AzureEntraIdConfiguration`, a mapping, any object with its attributes
                (lightspeed-stack's own model among them), a list of these, or None for none.

        Raises:
            InvalidConfigurationError: the configuration cannot work; the one before stays.
        """
        config = redacted(config)
        blocks = _blocks(config)
        _check_distinct(blocks)
        before = self._caches
        self._caches = {}
        for block in blocks:
            entry = _cache_entry(block)
            if entry not in self._caches:
                known = entry in before
                self._caches[entry] = before.pop(entry) if known else self._cache(block, entry[1])
        self._identities = tuple(Identity(b, self._caches[_cache_entry(b)]) for b in blocks)
        self._by_name = {identity.provider_id: identity for identity in self._identities}
        for gone in before.values():
            gone.close()
        for identity in self._identities:
            if identity.config.prefetch:
                identity.cache.renew_if_due()

    def set_base_url(self, base_url: str | None) -> None:
        """Set the Azure endpoint that the provider data names; None when it is not known.

        Args:
            base_url: the `base_url` of the stack's `remote::azure` provider.
        """
        self._base_url = base_url

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The configured identities, in the order of the configuration."""
        return self._identities

    def identity(self, provider_id: str | None = None) -> Identity:
        """Return the identity that serves a provider.

        Args:
            provider_id: the Llama Stack `provider_id`; None means the first identity.

        Raises:
            InvalidConfigurationError: none is configured, or none for this provider.
        """
        found = self.find_identity(provider_id)
        if found is None:
            raise InvalidConfigurationError(
                f"No identity serves provider {provider_id!r}; give one of the azure_entra_id "
                f"blocks provider_id: {provider_id}"
                if self._identities
                else _NOT_CONFIGURED
            )
        return found

    def find_identity(self, provider_id: str | None) -> Identity | None:
        """Return the identity that serves a provider, or None: this provider gets no token."""
        if provider_id is None:
            return self._identities[0] if self._identities else None
        return self._by_name.get(provider_id) or self._by_name.get(None)

    # -- state, never waiting ----------------------------------------------------------------

    @property
    def is_entra_id_configured(self) -> bool:
        """Whether there is an identity to sign in with."""
        return bool(self._identities)

    @property
    def is_token_expired(self) -> bool:
        """Whether no usable token is at hand: never fetched, expired, or rejected."""
        return not self._identities or self._identities[0].cache.peek() is None

    @property
    def access_token(self) -> SecretStr:
        """The last token, which may have expired; empty before the first."""
        token = self._identities[0].cache.latest() if self._identities else None
        return token.secret if token else SecretStr("")

    @property
    def azure_base_url(self) -> str | None:
        """The Azure endpoint as `set_base_url` was told."""
        return self._base_url

    def build_azure_provider_data(self) -> dict[str, str] | None:
        """Return `azure_api_key` and `azure_api_base`, None without a usable token or an endpoint.

        Never waits and starts nothing.
        """
        if not self._identities or self._base_url is None:
            return None
        return self._identities[0].provider_data(self._base_url)

    def status(self) -> tuple[CacheStatus, ...]:
        """Return an immutable snapshot of every identity's token, without secrets."""
        return tuple(identity.status() for identity in self._identities)

    # -- tokens ------------------------------------------------------------------------------

    def get_token(self) -> SecretStr:
        """Return a valid token; waits only where none is at hand, at most `deadline` seconds.

        Raises:
            InvalidConfigurationError: Entra ID is not configured.
            TokenError: no token can be had.
        """
        return self.identity().get_token()

    def aget_token(self) -> Coroutine[Any, Any, SecretStr]:
        """Do what `get_token` does without blocking the event loop; to be awaited."""
        first = self._identities[0] if self._identities else self.identity()
        return first.aget_token()

    def renew_if_due(self) -> None:
        """Start the renewals that are due, behind; never waits."""
        for identity in self._identities:
            identity.cache.renew_if_due()

    def refresh_token(self) -> bool:
        """Join or start a renewal and wait for it; True when there is a new token.

        Waits at most `deadline` seconds, so not for use on an event loop; there nothing needs it.

        Raises:
            InvalidConfigurationError: (a ValueError) Entra ID is not configured.
        """
        identity = self.identity()
        try:
            identity.cache.refresh()
        except TokenError as error:
            _logger.warning("Token renewal failed: %s", error)
            return False
        return True

    def close(self) -> None:
        """Stop all background renewal; a token at hand is still served to its end."""
        for cache in self._caches.values():
            cache.close()

    def _cache(self, block: AzureEntraIdConfiguration, scope: str) -> TokenCache:
        source = credential_source(block, scope=scope)
        source.warm_up()
        name = block.provider_id or "azure"
        return TokenCache(
            source, name=name, deadline=block.deadline, hang=source.hang, **self._cache_options
        )


def _cache_entry(block: AzureEntraIdConfiguration) -> _Entry:
    """Return what a token depends on: the identity and the scope.

    `provider_id` and `prefetch` do not count. The scope is the default one.
    """
    identity = block.model_copy(update={"provider_id": None, "prefetch": False, "scope": None})
    return identity, block.default_scope


def _blocks(config: object) -> tuple[AzureEntraIdConfiguration, ...]:
    if config is None:
        return ()
    if isinstance(config, Sequence) and not isinstance(config, str):
        return tuple(AzureEntraIdConfiguration.from_object(block) for block in config)
    return (AzureEntraIdConfiguration.from_object(config),)


def _check_distinct(blocks: tuple[AzureEntraIdConfiguration, ...]) -> None:
    names = [block.provider_id for block in blocks]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidConfigurationError(
            *(
                f"azure_entra_id: two identities for provider {name!r}; give each a provider_id of its own"
                for name in sorted(str(name) for name in twice)
            )
        )
