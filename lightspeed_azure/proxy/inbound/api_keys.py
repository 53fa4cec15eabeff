"""Callers send an API key from a file that is read again while the proxy runs."""

import asyncio
import hashlib
import hmac
import logging
import re

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.concurrency.last_good import LastGood
from lightspeed_azure.config.inbound import ApiKeysInbound
from lightspeed_azure.proxy.inbound import Headers, InboundStatus
from lightspeed_azure.proxy.inbound.presented import api_key
from lightspeed_azure.proxy.inbound.rejected import InboundRejected, Reason, frameless
from lightspeed_azure.secrets import SecretFile

_logger = logging.getLogger("lightspeed_azure.inbound")

API_KEYS_NAME = "api_keys"
"""The file in a directory that `api_keys_file` names."""

_REREAD = 1.0
"""Seconds until the file is read again; a new or removed key takes effect after this time."""

_PATIENCE = 1.0
"""Seconds that a request waits for a disk that hangs; then the last known keys are used."""

_SHORTEST = 16
"""Characters that a key in plain text must have."""

_MOST = 1000
"""Keys: each is compared for every request."""

_HASHED = re.compile(r"sha256:[0-9a-fA-F]{64}")
_PLAIN = re.compile(r"[!-+\--~]+")


class ApiKeys:
    """Lets in callers with a key of the file. Use it from one event loop.

    Only hashes are kept. A key is compared with all of them, so that the time of the comparison
    reveals nothing.

    Args:
        config: where the file is.
        clock: gives the time.
    """

    def __init__(self, config: ApiKeysInbound, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._file = SecretFile(
            config.api_keys_file,
            default_name=API_KEYS_NAME,
            key="proxy.inbound.api_keys_file",
            check=check_api_keys,
            binary=True,
        )
        self._keys = LastGood(
            self._read,
            monotonic=clock.monotonic,
            refresh_after=_REREAD,
            expire_after=_REREAD,
        )
        self._reloads = 0
        self._looking: asyncio.Task[frozenset[bytes]] | None = None

    async def start(self) -> None:
        """Read the file.

        Raises:
            InvalidConfigurationError: it cannot be read, or holds no keys.
        """
        await self._keys.get()

    async def close(self) -> None:
        """End a reading under way."""
        if self._looking is not None:
            self._looking.cancel()
        self._keys.close()

    async def admit(self, headers: Headers) -> None:
        """Let the request in.

        Raises:
            InboundRejected: its key is not in the file.
        """
        judging = self._judge(headers)
        del headers
        await frameless(judging)

    async def _judge(self, headers: Headers) -> None:
        shown = hashlib.sha256(api_key(headers).encode("utf-8", "surrogateescape")).digest()
        known = False
        for each in await self._keys.get(_PATIENCE):
            known |= hmac.compare_digest(each, shown)
        if not known:
            raise InboundRejected(Reason.API_KEY, "The API key is not known here")

    def status(self) -> InboundStatus:
        """Return a snapshot, and read the file again in the background, as a caller would."""
        keys = self._keys.value or frozenset()
        if keys and (self._looking is None or self._looking.done()) and _in_a_loop():
            self._looking = asyncio.create_task(self._keys.get(_PATIENCE))
        return InboundStatus(
            kind="api_keys",
            ready=bool(keys),
            keys=len(keys),
            reloads=self._reloads,
            failures=self._file.failures,
            last_error=self._file.fault,
        )

    async def _read(self) -> frozenset[bytes]:
        hashes = hashes_of(await asyncio.to_thread(self._file.read_bytes))
        if hashes != self._keys.value:
            self._reloads += 1
            _logger.info("%d API keys are known now", len(hashes))
        return hashes


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def hashes_of(content: bytes) -> frozenset[bytes]:
    """Return the SHA-256 of every key of a file.

    A line is a key, or `sha256:` and its hash in hex; what follows a `#` after a space is a
    comment, as is a line that begins with one.

    Raises:
        ValueError: it cannot be such a file; the text tells the line and no key.
    """
    hashes = set()
    for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if not text:
            continue
        if text.startswith("sha256:"):
            if not _HASHED.fullmatch(text):
                raise ValueError(f"line {number} must have 64 hex digits after sha256:")
            hashes.add(bytes.fromhex(text.removeprefix("sha256:")))
            continue
        if not _PLAIN.fullmatch(text):
            raise ValueError(f"line {number} must be one key, without spaces and commas")
        if len(text) < _SHORTEST:
            raise ValueError(f"line {number} has less than {_SHORTEST} characters; make it longer")
        hashes.add(hashlib.sha256(text.encode()).digest())
    if not hashes:
        raise ValueError("holds no key; write one a line")
    if len(hashes) > _MOST:
        raise ValueError(f"holds more than {_MOST} keys; give callers JWTs instead")
    return frozenset(hashes)


def check_api_keys(content: bytes) -> None:
    """Refuse what is no file of API keys; for `SecretFile`."""
    hashes_of(content)
