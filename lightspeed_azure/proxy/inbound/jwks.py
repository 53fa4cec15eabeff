"""The keys of an issuer: where they are, fetched again and again, kept while the issuer is down."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from lightspeed_azure.concurrency.clock import Clock
from lightspeed_azure.concurrency.last_good import LastGood
from lightspeed_azure.config.inbound import JwtInbound, is_plain
from lightspeed_azure.network_failure import network_failure, shown
from lightspeed_azure.proxy.inbound.jwt import VerificationKey, verification_keys
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason

_logger = logging.getLogger("lightspeed_azure.inbound")

_FIRST_COOLDOWN = 1.0
"""Seconds between two fetches while there is no key at all and every caller gets 503."""

_LARGEST = 1 << 20
"""Bytes: key sets have a few thousand."""

_TIMEOUT = 5.0
"""Seconds for one document, however slowly it arrives."""

_DISCOVERY = "/.well-known/openid-configuration"

type Fetch = Awaitable[tuple[VerificationKey, ...]]


class FetchError(Exception):
    """A document cannot be fetched; the text names it, the reason, and what to do."""


class JwksFetcher:
    """Fetches the keys of issuers.

    `ca_bundle` is read again each time, so it may be rotated. No connection is kept, because minutes
    pass between two fetches.

    Args:
        config: the authorities to trust, and whether plain HTTP may be used.
    """

    def __init__(self, config: JwtInbound) -> None:
        self._ca_bundle = config.ca_bundle
        self._allow_insecure = config.allow_insecure

    async def keys_at(
        self, uri: str, key: str = "proxy.inbound.jwks_uri"
    ) -> tuple[VerificationKey, ...]:
        """Return the keys of a JSON Web Key Set.

        Args:
            uri: its URL.
            key: what names the URL, for messages.

        Raises:
            FetchError: there are none.
        """
        document = await self._json(uri, key)
        try:
            return verification_keys(document)
        except ValueError as error:
            raise FetchError(f"{shown(uri)} {error}; check the address") from None

    async def keys_of(self, issuer: str) -> tuple[VerificationKey, ...]:
        """Return the keys that an issuer's own document names (OpenID Connect Discovery 1.0, 4).

        Raises:
            FetchError: there are none.
        """
        url = issuer.rstrip("/") + _DISCOVERY
        where = shown(url)
        document = await self._json(url, "proxy.inbound.issuer")
        if document.get("issuer") != issuer:
            said = str(document.get("issuer"))[:200]
            raise FetchError(
                f"{where} says that its issuer is {said!r}, which differs from what is configured; "
                "list what the callers' tokens have in iss, and give jwks_uri"
            )
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchError(f"{where} names no jwks_uri; give it in the configuration")
        return await self.keys_at(uri, f"the jwks_uri of {where}")

    async def _json(self, url: str, key: str) -> Mapping[str, Any]:
        """Return the JSON object at a URL.

        Raises:
            FetchError: there is none.
        """
        if not url.startswith(("http://", "https://")):
            raise FetchError(f"{url[:200]!r} is not a URL of http or https; give jwks_uri")
        where = shown(url)
        if is_plain(url) and not self._allow_insecure:
            raise FetchError(
                f"{where} is plain HTTP on another machine, and anyone who can tamper with the keys "
                "could forge tokens; use https, or set allow_insecure: true if something else "
                "protects the connection"
            )
        try:
            async with asyncio.timeout(_TIMEOUT):
                document = json.loads(await self._get(url, where))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # TimeoutError is an OSError
            failure = network_failure(error)
            if failure is None:
                text = f"gives no usable answer ({type(error).__name__}); check the address"
                raise FetchError(f"{where} {text}") from None
            cure = failure.cure(url_key=key, ca_key="proxy.inbound.ca_bundle")
            text = f"{where}: {failure.words}; {cure[0].lower()}{cure[1:]}"
            raise FetchError(text) from None
        except (ValueError, RecursionError):
            raise FetchError(f"{where} does not return JSON; check the address") from None
        if not isinstance(document, dict):
            raise FetchError(f"{where} does not return a JSON object; check the address")
        return document

    async def _get(self, url: str, where: str) -> bytes:
        verify = await self.authorities() if url.startswith("https://") else False
        async with (
            httpx.AsyncClient(verify=verify, timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            if response.is_redirect:
                raise FetchError(f"{where} redirects elsewhere; give the address that it leads to")
            if response.status_code in (401, 403):
                raise FetchError(
                    f"{where} answers {response.status_code}, so it cannot be read anonymously; allow "
                    "that, in Kubernetes by binding the ClusterRole "
                    "system:service-account-issuer-discovery to the group system:unauthenticated"
                )
            if response.status_code != 200:
                raise FetchError(f"{where} answers {response.status_code}; check the address")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST:
                    raise FetchError(f"{where} answers with more than 1 MiB; check the address")
            return bytes(body)

    async def authorities(self) -> ssl.SSLContext:
        """Return the trusted authorities; on a thread, because it takes tens of milliseconds.

        Raises:
            FetchError: their file cannot be used.
        """
        try:
            return await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_bundle)
        except FileNotFoundError:
            text = "there is no such file; correct the path, or create it"
        except OSError:  # ssl.SSLError is one
            text = (
                "holds no certificate in PEM, or cannot be read; name the file with the issuer's "
                "authority"
            )
        raise FetchError(f"proxy.inbound.ca_bundle: {text}")


@dataclass(frozen=True, slots=True)
class KeySourceStatus:
    """A snapshot of one source of keys.

    Attributes:
        keys: how many are known.
        reloads: how many fetches brought other keys than before.
        failures: how many fetches failed.
        last_error: why the last one failed, or "".
    """

    keys: int
    reloads: int
    failures: int
    last_error: str


class KeySource:
    """The verification keys of one issuer. Use it from one event loop.

    Args:
        name: what to call it in messages.
        fetch: gets the keys; raises FetchError.
        clock: gives the time.
        refresh: seconds after which they are fetched again.
        cooldown: seconds between two fetches that unknown keys or failures cause.
        sleep: waits.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Fetch],
        *,
        clock: Clock,
        refresh: float,
        cooldown: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._refresh = refresh
        self._cooldown = cooldown
        self._sleep = sleep
        self._last_good = LastGood(self._fetched, monotonic=clock.monotonic)
        self._keeper: asyncio.Task[None] | None = None
        self._reloads = 0
        self._failures = 0

    async def start(self) -> None:
        """Fetch the keys, and go on in the background; a failure is logged, not raised."""
        await self._renew()
        self._keeper = asyncio.create_task(self._keep(), name=f"keys of {self._name}")

    async def close(self) -> None:
        """Fetch no more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        fetch = self._last_good.close()
        if fetch is not None:
            await asyncio.wait((fetch,))

    def holds(self, key: VerificationKey) -> bool:
        """Return whether a key is still one of the issuer's."""
        return key in self._keys

    async def candidates(self, kid: str | None, alg: str) -> list[VerificationKey]:
        """Return the keys that may verify a signature; waits only for a fetch that may bring them.

        Args:
            kid: the name of the key in the token's header, None without one.
            alg: the algorithm in it.

        Raises:
            InboundRejected: there are no keys at all, or none of this name.
        """
        found = self._find(kid, alg)
        if not found:
            await self._renew(self._pause())
            found = self._find(kid, alg)
        if not self._keys:
            text = "The keys of the issuer cannot be had at the moment; try again"
            raise InboundRejected(Reason.KEYS_UNAVAILABLE, text, retry_after=self._pause())
        if not found:
            raise InboundRejected(
                Reason.UNKNOWN_KEY, "Signed with a key that the issuer does not have"
            )
        return found

    def status(self) -> KeySourceStatus:
        """Return a snapshot."""
        fault = str(self._last_good.failure or "")
        return KeySourceStatus(len(self._keys), self._reloads, self._failures, fault)

    @property
    def _keys(self) -> frozenset[VerificationKey]:
        return self._last_good.value or frozenset()

    def _find(self, kid: str | None, alg: str) -> list[VerificationKey]:
        found = [
            key for key in self._keys if alg in key.algorithms and (kid is None or key.kid == kid)
        ]
        # A token without a `kid` is accepted if only one key fits (RFC 7515, section 4.1.4).
        return found if kid is not None or len(found) == 1 else []

    def _pause(self) -> float:
        """Return the seconds after a fetch in which no other one starts."""
        return self._cooldown if self._keys else min(self._cooldown, _FIRST_COOLDOWN)

    async def _keep(self) -> None:
        while True:
            await self._sleep(self._pause() if self._last_good.failure else self._refresh)
            await self._renew()

    async def _renew(self, cooldown: float = 0.0) -> None:
        with contextlib.suppress(FetchError):  # the last keys stay
            await self._last_good.renew(cooldown)

    async def _fetched(self) -> frozenset[VerificationKey]:
        """Fetch the keys, and log what has changed.

        Raises:
            FetchError: there are none.
        """
        before = self._last_good
        try:
            keys = frozenset(await self._fetch())
        except Exception as error:  # noqa: BLE001 - every failure must leave the last keys in use
            kind = type(error).__name__
            fault = (
                error if isinstance(error, FetchError) else FetchError(f"the fetch failed ({kind})")
            )
            self._failures += 1
            if str(fault) != str(before.failure):
                kept = "The last ones stay in use" if self._keys else "Callers get 503 until then"
                _logger.warning("No new keys of %s: %s. %s", self._name, fault, kept)
            raise fault from None
        if before.failure:
            _logger.info("The keys of %s can be had again", self._name)
        if keys != self._keys:
            self._reloads += 1
            _logger.info("%s has %d keys now", self._name, len(keys))
        return keys
