"""What one request to the stack carries each time it is sent."""

from collections.abc import Mapping
from typing import Any

from lightspeed_azure.clients.held_stream import Hold, Send, held
from lightspeed_azure.clients.refusal import is_azure_refusal, is_unexplained
from lightspeed_azure.errors import LightspeedAzureError
from lightspeed_azure.identity import Identity
from lightspeed_azure.provider_data import encode, merge, parse, provider_keys
from lightspeed_azure.sources import ProviderKeys
from lightspeed_azure.token_cache.cache import Token


class Call:
    """A request that carries no token: the caller's own provider data only."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    async def header(self) -> str | None:
        """Return the provider-data header's value as of now; None for no header."""
        return encode(self.data) if self.data else None

    def refused(self) -> None:
        """Note that the provider refused what was sent; here that is nothing of ours."""

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; `send` asks for `header()` each time."""
        del hold  # nothing is repeated
        return await send()


class AzureCall(Call):
    """An inference request for a `remote::azure` model: it carries the token of the moment."""

    def __init__(
        self,
        data: Mapping[str, Any],
        identity: Identity,
        base_url: str,
        *,
        min_remaining: float,
        keys: Mapping[str, Identity],
    ) -> None:
        super().__init__(data)
        self._identity = identity
        self._base_url = base_url
        self._min_remaining = min_remaining
        self._keys = keys
        self._sent: Token | None = None
        self._repeated = False

    async def header(self) -> str:
        """Return the header's value with a valid token; waits only where none is at hand.

        Raises:
            TokenError: no token can be had; the request must not be sent.
        """
        token, value = await self._identity.aheader(
            self._base_url, min_remaining=self._min_remaining
        )
        self._sent = token
        if not self.data and not self._keys:
            return value
        at_hand = {name: identity.cache.peek() for name, identity in self._keys.items()}
        keys = provider_keys({name: each.secret for name, each in at_hand.items() if each})
        return encode(merge((keys, self.data, parse(value))))

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; where Azure refuses the token, once more with a new one.

        Raises:
            TokenError: no token can be had.
            Exception: what the stack's client raises.
        """
        del hold  # a refusal comes before the stream
        try:
            return await send()
        except Exception as error:
            if self._sent is None or not is_azure_refusal(error):
                raise
        self.refused()
        self._repeated = True
        return await send()

    def refused(self) -> None:
        """Drop the token that was sent, so that the next one is new; all who were refused share it."""
        if self._sent is not None:
            self._identity.cache.invalidate(self._sent.secret)


class StreamedResponseCall(AzureCall):
    """A streamed `/v1/responses`: its refusal comes inside the stream."""

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; its opening events are held back until a refusal can be ruled out."""
        answer = await super().sent_by(send)
        held_back: Answer = hold(answer, self.refused, send, may_repeat=not self._repeated)
        return held_back


class KeyedCall(Call):
    """An inference request for a provider whose key we know: it carries that of the moment.

    What the caller sends for the provider wins.
    """

    def __init__(self, data: Mapping[str, Any], keys: ProviderKeys) -> None:
        super().__init__(data)
        self._keys = keys
        self._sent: Mapping[str, Any] = {}

    async def header(self) -> str | None:
        """Return the header's value with the keys as they are now.

        Raises:
            TokenError: a key cannot be had; the request must not be sent.
        """
        self._sent = await self._keys.data(self.data)
        data = merge((self._sent, self.data))
        return encode(data) if data else None

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; where the provider refuses the key, once more if there is another now.

        Raises:
            TokenError: a key cannot be had.
            Exception: what the stack's client raises.
        """
        del hold  # of a refusal inside a stream nobody can tell whose it is
        try:
            return await send()
        except Exception as error:
            refused = is_azure_refusal(error)
            if refused:
                self.refused()
            if not (refused or is_unexplained(error)) or not await self._changed():
                raise
        return await send()

    def refused(self) -> None:
        """Drop the keys that were sent, so that the next ones are new where they can be."""
        self._keys.refused(self._sent)

    async def _changed(self) -> bool:
        """Return whether a key is another by now than the one that was sent."""
        try:
            return await self._keys.data(self.data) != self._sent
        except LightspeedAzureError:
            return False


class _SentOnce(Call):
    """A plain `/v1/responses` whose tools the stack calls itself: nobody sees whether it has yet.

    So it is never repeated: a refusal is noted, and the caller gets the stack's own error.
    """

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request once."""
        del hold
        try:
            return await send()
        except Exception as error:
            if is_azure_refusal(error):
                self.refused()
            raise


class ToolCall(_SentOnce, AzureCall):
    """One for a `remote::azure` model."""


class KeyedToolCall(_SentOnce, KeyedCall):
    """One for a provider whose key we know."""
