"""Keys that are tokens, from Entra ID or Google, each with a token cache."""

import hashlib
import time
from collections.abc import Callable

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.config import AzureEntraIdConfiguration, ProviderCredential
from lightspeed_azure.errors import KeyUnavailableError, TokenError
from lightspeed_azure.keys.google_token import GoogleTokenSource, check_installed
from lightspeed_azure.keys.key_source import FileKey, KeySource
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.entra import credential_source
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.manager import AzureEntraIDManager


class EntraKey(KeySource):
    """An Entra ID token, for the identity's own scope or for another.

    Args:
        credential: what the operator wrote.
        manager: returns the manager whose identities sign in.
        monotonic: gives seconds.
    """

    def __init__(
        self,
        credential: ProviderCredential,
        manager: Callable[[], AzureEntraIDManager],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(credential, monotonic)
        self._manager = manager
        self._lock = ForkLock()  # guards the next two
        self._own: dict[str | None, tuple[AzureEntraIdConfiguration, TokenCache]] = {}
        self._gave: dict[str, TokenCache] = {}  # by provider

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return a valid token; waits only if there is none yet.

        Raises:
            TokenError: there is none.
        """
        del field
        cache = self._of(provider_id)
        if cache is None:
            self.note("no azure_entra_id identity is configured")
            return None
        try:
            token = await cache.aget()
        except TokenError as error:
            self.note(error.message, logged=True)
            raise
        self.note("")
        return self.keep(token.secret)

    def invalidate(self, key: SecretStr, provider_id: str) -> None:
        """Replace the token, which a provider refused."""
        with self._lock:
            caches = set(self._gave.values())
        for cache in caches:  # each drops only its own token
            cache.invalidate(key, by=provider_id)

    def accepted(self, key: SecretStr, provider_id: str) -> None:
        """Note that a provider accepted this token."""
        with self._lock:
            cache = self._gave.get(provider_id)
        if cache is not None:
            _accepted(cache, key, provider_id)

    def close(self) -> None:
        """Stop the renewal of the tokens for another scope."""
        with self._lock:
            own, self._own = self._own, {}
        for _, cache in own.values():
            cache.close()

    def _of(self, provider_id: str) -> TokenCache | None:
        wanted = self.credential.source.entra
        identity = self._identity(wanted.identity if wanted else None, provider_id)
        if identity is None or wanted is None:
            return None
        cache = identity.cache
        with self._lock:
            if wanted.scope not in (None, identity.config.default_scope):
                cache = self._own_of(identity, wanted.scope)
            self._gave[provider_id] = cache
        return cache

    def _own_of(self, identity: Identity, scope: str | None) -> TokenCache:
        """Return the cache of an identity's tokens for this scope; one for each identity."""
        config = identity.config.model_copy(update={"scope": scope, "prefetch": False})
        known = self._own.get(identity.provider_id)
        if known is not None and known[0] == config:
            return known[1]
        source = credential_source(config)
        cache = TokenCache(
            source, name=self.credential.name, deadline=config.deadline, hang=source.hang
        )
        self._own[identity.provider_id] = config, cache
        if known is not None:
            known[1].close()
        return cache

    def _identity(self, name: str | None, provider_id: str) -> Identity | None:
        manager = self._manager()
        if name is not None:
            named = [each for each in manager.identities if each.provider_id == name]
            return named[0] if named else None
        return manager.find_identity(provider_id) or manager.find_identity(None)


class GoogleKey(FileKey):
    """A Google access token, fetched with the credential in a file that is read for each request.

    When the file changes, the next request waits for a token of the new credential; if there is
    none, the previous token is used until it expires. A file may contain an access token itself.
    """

    def __init__(
        self, credential: ProviderCredential, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        check_installed()
        super().__init__(credential, monotonic)
        self._lock = ForkLock()  # guards the next one
        self._caches: list[
            tuple[str, TokenCache]
        ] = []  # of the current file, and of the one before

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return a valid token; waits only if there is none yet.

        Raises:
            TokenError: there is none.
        """
        del provider_id, field
        caches = self._now()
        if caches is None or isinstance(caches, SecretStr):
            return None if caches is None else self._kept(caches, self._file.fault)
        failure: TokenError | None = None
        for _, cache in caches:
            try:
                if failure is None:
                    token = await cache.aget()
                else:
                    before = cache.peek()
                    if before is None:
                        continue
                    token = before
            except TokenError as error:
                failure = error
                continue
            if failure is None:
                self._forget_all_but(cache)
            return self._kept(token.secret, failure.message if failure else self._file.fault)
        failure = failure or KeyUnavailableError(f"{self.credential.name}: no token")
        self.note(failure.message, logged=True)
        raise failure

    def _now(self) -> SecretStr | tuple[tuple[str, TokenCache], ...] | None:
        """Return the token in the file, or the caches for its credential.

        No frame of an error's traceback contains the credential.
        """
        content = self._content()
        if content is None:
            return None
        if not content.lstrip().startswith(b"{"):
            return SecretStr(content.decode().strip())
        with self._lock:
            return self._of(content)

    def _kept(self, key: SecretStr, fault: str) -> SecretStr:
        self.note(fault, logged=True)
        self.keep(key)
        return key

    def invalidate(self, key: SecretStr, provider_id: str) -> None:
        """Replace the token, which a provider refused."""
        with self._lock:
            caches = [*self._caches]
        for _, cache in caches:
            cache.invalidate(key, by=provider_id)

    def accepted(self, key: SecretStr, provider_id: str) -> None:
        """Note that a provider accepted this token."""
        with self._lock:
            caches = [*self._caches]
        for _, cache in caches:
            _accepted(cache, key, provider_id)

    def close(self) -> None:
        """Stop the renewal."""
        with self._lock:
            caches, self._caches = self._caches, []
        for _, cache in caches:
            cache.close()

    def _of(self, content: bytes) -> tuple[tuple[str, TokenCache], ...]:
        """Return the caches, the one of the current file first."""
        digest = hashlib.sha256(content).hexdigest()
        if not self._caches or self._caches[0][0] != digest:
            known = [each for each in self._caches if each[0] == digest]
            cache = TokenCache(GoogleTokenSource(content, digest), name=self.credential.name)
            others = [each for each in self._caches if each[0] != digest]
            self._caches = [*(known or [(digest, cache)]), *others[:1]]
            for _, gone in others[1:]:
                gone.close()
        return tuple(self._caches)

    def _forget_all_but(self, cache: TokenCache) -> None:
        with self._lock:
            if len(self._caches) < 2 or self._caches[0][1] is not cache:
                return
            gone, self._caches = self._caches[1:], self._caches[:1]
        for _, each in gone:
            each.close()


def _accepted(cache: TokenCache, key: SecretStr, provider_id: str) -> None:
    token = cache.latest()
    if token is not None and token.secret == key:
        cache.accepted(token, by=provider_id)
