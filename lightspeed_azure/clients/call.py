"""What one request to the stack carries each time it is sent."""

from collections.abc import Mapping
from typing import Any

from lightspeed_azure.clients.held_stream import Hold, Send, held
from lightspeed_azure.clients.refusal import is_azure_refusal, is_unexplained
from lightspeed_azure.errors import LightspeedAzureError
from lightspeed_azure.keys.provider_credentials import ProviderKeys
from lightspeed_azure.provider_data import encode, merge, parse, provider_keys
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.lifetime import Token


class Call:
    """A request that carries no token: the caller's own provider data only."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    async def header(self) -> str | None:
        """Return the provider-data header's value as of now; None for no header."""
        return encode(self.data) if self.data else None

    def refused(self) -> bool:
        """Note that the provider refused what was sent; return whether something else can be sent."""
        return False

    def accepted(self) -> None:
        """Note that the provider accepted what was sent."""

    async def sent_by[Answer](self, send: Send[Answer], hold: Hold = held) -> Answer:
        """Send the request; `send` asks for `header()` each time."""
        del hold  # nothing is repeated
        return await send()


class AzureCall(Call):
    """An inference request for a `remote::azure` model: it carries the token of the moment.

    Args:
        data: the caller's own provider data.
        identity: whose token it carries.
        base_url: of the provider, which is where the token goes.
        min_remaining: seconds of life that the token should have left.
        keys: the identities of all Azure providers, by provider, where the stack reads a key of each.
        once: the stack calls tools for this request, so it is never sent twice.
        streamed: a refusal comes inside the stream.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        identity: Identity,
        base_url: str,
        *,
        min_remaining: float,
        keys: Mapping[str, Identity],
        once: bool = False,
        streamed: bool = False,
    ) -> None:
        super().__init__(data)
        self._identity = identity
        self._base_url = base_url
        self._min_remaining = min_remaining
        self._keys = keys
        self._once = once
        self._streamed = streamed
        self._sent: Token | None = None

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

        The opening events of a streamed response are held back until a refusal can be ruled out.

        Raises:
            TokenError: no token can be had.
            Exception: what the stack's client raises.
        """
        may_repeat = not self._once
        try:
            answer = await send()
        except Exception as error:
            if not is_azure_refusal(error) or not self.refused() or self._once:
                raise
            may_repeat = False
            answer = await send()
        if self._streamed:
            held_back: Answer = hold(answer, self, send, may_repeat=may_repeat)
            return held_back
        if _is_success(answer):
            self.accepted()
        return answer

    def refused(self) -> bool:
        """Drop the token that was sent, unless a new one was refused a moment ago, too.

        All requests that were refused together share one renewal.
        """
        if self._sent is None:
            return False
        cache = self._identity.cache
        cache.invalidate(self._sent.secret, by=self._base_url)
        return cache.peek() is not self._sent

    def accepted(self) -> None:
        """Note that Azure accepted the token that was sent."""
        if self._sent is not None:
            self._identity.cache.accepted(self._sent, by=self._base_url)


class KeyedCall(Call):
    """An inference request for a provider whose key we know: it carries that of the moment.

    What the caller sends for the provider wins.

    Args:
        data: the caller's own provider data.
        keys: the provider's keys.
        once: the stack calls tools for this request, so it is never sent twice.
        streamed: a refusal comes inside the stream.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        keys: ProviderKeys,
        *,
        once: bool = False,
        streamed: bool = False,
    ) -> None:
        super().__init__(data)
        self._keys = keys
        self._once = once
        self._streamed = streamed
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
            answer = await send()
        except Exception as error:
            refused = is_azure_refusal(error)
            if refused:
                self.refused()
            if self._once or not (refused or is_unexplained(error)) or not await self._changed():
                raise
            answer = await send()
        if not self._streamed and _is_success(answer):
            self.accepted()
        return answer

    def refused(self) -> bool:
        """Drop the keys that were sent, so that the next ones are new where they can be."""
        self._keys.refused(self._sent)
        return False

    def accepted(self) -> None:
        """Note that the provider accepted the keys that were sent."""
        self._keys.accepted(self._sent)

    async def _changed(self) -> bool:
        """Return whether a key is another by now than the one that was sent."""
        try:
            return await self._keys.data(self.data) != self._sent
        except LightspeedAzureError:
            return False


def _is_success(answer: object) -> bool:
    """Return whether an answer is no error; what a client made of one has no HTTP status."""
    status = getattr(answer, "status_code", getattr(answer, "status", None))
    return not isinstance(status, int) or status < 400
