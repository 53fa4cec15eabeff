"""One Entra ID identity: its configuration, its cached token, and the header made from it."""

from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.provider_data import azure_provider_data, encode
from lightspeed_azure.token_cache import CacheStatus, Token, TokenCache


class Identity:
    """The token of one identity, as a secret and as a ready-made header value.

    Safe to use from any thread and any event loop. Nothing here waits, but `get_token`,
    `aget_token` and `refresh_token` where no usable token is at hand.
    """

    def __init__(self, config: AzureEntraIdConfiguration, cache: TokenCache) -> None:
        self.config = config
        self.cache = cache
        # base URL → (token, header value made from it); a tuple is replaced as a whole, so a
        # reader without a lock sees a pair that belongs together.
        self._headers: dict[str, tuple[Token, str]] = {}

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

    async def aget_token(self, *, min_remaining: float = 0.0) -> SecretStr:
        """Like `get_token`, for coroutines; blocks no event loop."""
        return (await self.cache.aget(min_remaining=min_remaining)).secret

    def header(self, base_url: str, *, min_remaining: float = 0.0) -> tuple[Token, str]:
        """Return a valid token and the header value that carries it; waits like `get_token`."""
        return self._encoded(self.cache.get(min_remaining=min_remaining), base_url)

    async def aheader(self, base_url: str, *, min_remaining: float = 0.0) -> tuple[Token, str]:
        """Like `header`, for coroutines."""
        return self._encoded(await self.cache.aget(min_remaining=min_remaining), base_url)

    def provider_data(self, base_url: str) -> dict[str, str] | None:
        """Return the provider data of the token at hand, None without one; never waits."""
        token = self.cache.peek()
        return None if token is None else azure_provider_data(token.secret, base_url)

    def status(self) -> CacheStatus:
        """Return an immutable snapshot of the token's state, without secrets."""
        return self.cache.status()

    def _encoded(self, token: Token, base_url: str) -> tuple[Token, str]:
        pair = self._headers.get(base_url)
        if pair is None or pair[0] is not token:
            pair = (token, encode(azure_provider_data(token.secret, base_url)))
            self._headers[base_url] = pair
        return pair
