"""One Entra ID identity: its configuration, its cached token, and the header made from it."""

from collections.abc import Coroutine
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.provider_data import azure_provider_data, encode
from lightspeed_azure.tokens.cache import CacheStatus, TokenCache, TokenView
from lightspeed_azure.tokens.lifetime import Token


class Identity:
    """The token of one identity, as a secret and as a ready-made header value.

    Safe to use from any thread and any event loop. Nothing here waits, but `get_token`,
    `aget_token` and `refresh_token` where no usable token is at hand.
    """

    def __init__(self, config: AzureEntraIdConfiguration, cache: TokenCache) -> None:
        self.config = config
        self.cache = cache
        self._secret = cache.view(lambda token: token.secret)
        self._headers: dict[str, TokenView[tuple[Token, str]]] = {}

    def __repr__(self) -> str:
        return f"Identity(provider_id={self.provider_id!r}, kind={self.config.credential_kind!r})"

    @property
    def provider_id(self) -> str | None:
        """The Llama Stack provider that this identity serves; None serves all that no other does."""
        return self.config.provider_id

    def get_token(self, *, min_remaining: float = 0.0) -> SecretStr:
        """Return a valid token; waits only where none is at hand, at most `deadline` seconds.

        Args:
            min_remaining: seconds of life the token should have left, when one can be had.

        Raises:
            TokenError: none can be had.
        """
        return self.cache.get(min_remaining=min_remaining).secret

    def aget_token(self, *, min_remaining: float = 0.0) -> Coroutine[Any, Any, SecretStr]:
        """Do what `get_token` does without blocking the event loop; to be awaited."""
        if not min_remaining:
            return self._secret.aget()
        return self._lasting(self._secret, min_remaining)

    def header(self, base_url: str) -> tuple[Token, str]:
        """Return a valid token and the header value that carries it; waits like `get_token`."""
        reader = self._headers.get(base_url)
        return (reader or self.reader(base_url)).get()

    def aheader(
        self, base_url: str, *, min_remaining: float = 0.0
    ) -> Coroutine[Any, Any, tuple[Token, str]]:
        """Like `header`, to be awaited; no coroutine of its own stands before the reader's."""
        reader = self._headers.get(base_url) or self.reader(base_url)
        return self._lasting(reader, min_remaining) if min_remaining else reader.aget()

    def provider_data(self, base_url: str) -> dict[str, str] | None:
        """Return the provider data of the token at hand, None without one; never waits."""
        token = self.cache.peek()
        return None if token is None else azure_provider_data(token.secret, base_url)

    def status(self) -> CacheStatus:
        """Return an immutable snapshot of the token's state, without secrets."""
        return self.cache.status()

    async def _lasting[T](self, reader: TokenView[T], min_remaining: float) -> T:
        return reader.of(await self.cache.aget(min_remaining=min_remaining))

    def reader(self, base_url: str) -> TokenView[tuple[Token, str]]:
        """Return the reader of token and header value for one endpoint.

        Bind it once where every nanosecond counts: `reader.get()` costs a few attribute reads.
        """
        return self._headers.setdefault(
            base_url,
            self.cache.view(
                lambda token: (token, encode(azure_provider_data(token.secret, base_url)))
            ),
        )
