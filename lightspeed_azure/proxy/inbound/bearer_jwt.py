"""Callers show a JWT that a trusted issuer has signed (RFC 7519, RFC 8725, RFC 9068)."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import JwtInbound
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import Headers, InboundStatus
from lightspeed_azure.proxy.inbound.fetching import Fetcher, FetchError
from lightspeed_azure.proxy.inbound.jwks import Fetch, KeySource
from lightspeed_azure.proxy.inbound.jwt import (
    ClaimRules,
    Validity,
    VerificationKey,
    unverified,
    verification_keys,
)
from lightspeed_azure.proxy.inbound.presented import bearer
from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected, frameless

_MOST_VERIFIED = 4096
"""Tokens whose good signature is remembered: about one a caller."""

_DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was good: by which key, and until when it is."""

    source: KeySource
    key: VerificationKey
    validity: Validity


class BearerJwt:
    """Lets in whoever shows a JWT by the rules; for use on one event loop.

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
        self._fetcher = Fetcher(config.ca_bundle, allow_insecure=config.allow_insecure)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

        def source(name: str, fetch: Fetch) -> KeySource:
            return KeySource(
                name,
                fetch,
                clock=clock,
                refresh=config.key_refresh,
                cooldown=config.key_cooldown,
                sleep=sleep,
            )

        # Each issuer's keys vouch for its own tokens only, unless the operator put them together.
        if config.jwks_uri is not None:
            uri = config.jwks_uri
            common = source(uri, lambda: self._keys_at(uri))
            self._sources = dict.fromkeys(config.issuer, common)
        else:
            self._sources = {
                issuer: source(issuer, lambda issuer=issuer: self._discovered(issuer))  # type: ignore[misc]
                for issuer in config.issuer
            }
        self._distinct = tuple(dict.fromkeys(self._sources.values()))

    async def start(self) -> None:
        """Fetch the keys; succeeds when an issuer is down.

        Raises:
            InvalidConfigurationError: ca_bundle cannot be used.
        """
        try:
            await self._fetcher.check()
        except FetchError as error:
            raise InvalidConfigurationError(f"proxy.inbound.ca_bundle: {error}") from None
        await asyncio.gather(*(source.start() for source in self._distinct))

    async def close(self) -> None:
        """Fetch no more keys."""
        await asyncio.gather(*(source.close() for source in self._distinct))

    async def admit(self, headers: Headers) -> None:
        """Let the request in; waits only where a key is not known yet.

        Raises:
            Rejected: it is not let in.
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
            raise Rejected(Reason.MALFORMED, "The name of the key must be text")
        # A token that no key could make acceptable causes no fetch of keys.
        validity = self._rules.validity(jwt.claims)
        source = self._sources[jwt.claims["iss"]]
        for key in await source.candidates(kid, alg):
            if key.verifies(token, alg):
                self._rules.permissions(jwt.claims)
                return _Verified(source, key, validity)
        raise Rejected(Reason.SIGNATURE, "The signature is not good")

    async def _keys_at(self, uri: str) -> tuple[VerificationKey, ...]:
        document = await self._fetcher.json(uri)
        try:
            return verification_keys(document)
        except ValueError as error:
            raise FetchError(f"{uri} {error}; check the address") from None

    async def _discovered(self, issuer: str) -> tuple[VerificationKey, ...]:
        """Return the keys where the issuer's own document says (OpenID Connect Discovery 1.0, 4)."""
        where = issuer.rstrip("/") + _DISCOVERY
        document = await self._fetcher.json(where)
        if document.get("issuer") != issuer:
            said = str(document.get("issuer"))[:200]
            raise FetchError(
                f"{where} says that its issuer is {said!r}, which is not what is configured, letter "
                "by letter; list what the callers' tokens have in iss, and give jwks_uri"
            )
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchError(f"{where} names no jwks_uri; give it in the configuration")
        return await self._keys_at(uri)
