"""Callers show a JWT that a trusted issuer has signed (RFC 7519, RFC 8725, RFC 9068)."""

import asyncio
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import JwtInbound
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import Headers, InboundStatus
from lightspeed_azure.proxy.inbound.jwks import Fetch, FetchError, JwksFetcher, KeySource
from lightspeed_azure.proxy.inbound.jwt import (
    ClaimRules,
    Validity,
    VerificationKey,
    unverified,
)
from lightspeed_azure.proxy.inbound.presented import bearer
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason, frameless

_MOST_VERIFIED = 4096
"""Tokens whose good signature is remembered: about one a caller."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was good: by which key, and until when it is."""

    source: KeySource
    key: VerificationKey
    validity: Validity


class BearerJwt:
    """Lets in callers with an acceptable JWT. Use it from one event loop.

    A header whose token was good is remembered by its hash until the token ends, or its issuer
    drops the key that it is signed with.

    Args:
        config: the rules.
        clock: gives the time.
        sleep: waits between two fetches of keys.
    """

    def __init__(
        self,
        config: JwtInbound,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rules = ClaimRules(config, clock=clock)
        self._clock = clock
        self._fetcher = JwksFetcher(config)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

        def source(name: str, fetch: Callable[[str], Fetch]) -> KeySource:
            return KeySource(
                name,
                functools.partial(fetch, name),
                clock=clock,
                refresh=config.key_refresh,
                cooldown=config.key_cooldown,
                sleep=sleep,
            )

        # Each issuer's keys vouch for its own tokens only, unless the operator put them together.
        if config.jwks_uri is not None:
            common = source(config.jwks_uri, self._fetcher.keys_at)
            self._sources = dict.fromkeys(config.issuer, common)
        else:
            self._sources = {each: source(each, self._fetcher.keys_of) for each in config.issuer}
        self._distinct = tuple(dict.fromkeys(self._sources.values()))

    async def start(self) -> None:
        """Fetch the keys; succeeds when an issuer is down.

        Raises:
            InvalidConfigurationError: ca_bundle cannot be used.
        """
        try:
            await self._fetcher.authorities()
        except FetchError as error:
            raise InvalidConfigurationError(str(error)) from None
        await asyncio.gather(*(source.start() for source in self._distinct))

    async def close(self) -> None:
        """Fetch no more keys."""
        await asyncio.gather(*(source.close() for source in self._distinct))

    async def admit(self, headers: Headers) -> None:
        """Let the request in; waits only where a key is not known yet.

        Raises:
            InboundRejected: it is not let in.
        """
        shown = "\n".join(headers.getall("Authorization", ()))
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None:
            now = self._clock.wall()
            good = known.validity.begins <= now < known.validity.ends
            if good and known.source.holds(known.key):
                return
            del self._verified[digest]
        judging = self._judge(headers, digest)
        del headers, shown
        await frameless(judging)

    async def _judge(self, headers: Headers, digest: bytes) -> None:
        """Verify the token, and remember that it was good."""
        self._verified[digest] = await self._verify(bearer(headers))
        if len(self._verified) > _MOST_VERIFIED:
            self._verified.popitem(last=False)

    def status(self) -> InboundStatus:
        """Return a snapshot."""
        states = [source.status() for source in self._distinct]
        return InboundStatus(
            kind="jwt",
            ready=any(state.keys for state in states),
            keys=sum(state.keys for state in states),
            reloads=sum(state.reloads for state in states),
            failures=sum(state.failures for state in states),
            last_error="; ".join(state.last_error for state in states if state.last_error),
        )

    async def _verify(self, token: str) -> _Verified:
        jwt = unverified(token)
        alg = self._rules.algorithm(jwt.header)
        kid = jwt.header.get("kid")
        if not isinstance(kid, str | None):
            raise InboundRejected(Reason.MALFORMED, "The name of the key must be text")
        # A token that no key could make acceptable causes no fetch of keys.
        validity = self._rules.validity(jwt.claims)
        source = self._sources[jwt.claims["iss"]]
        for key in await source.candidates(kid, alg):
            if key.verifies(jwt, alg):
                self._rules.permissions(jwt.claims)
                return _Verified(source, key, validity)
        raise InboundRejected(Reason.SIGNATURE, "The signature is not good")
