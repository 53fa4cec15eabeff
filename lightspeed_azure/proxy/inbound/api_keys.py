"""Callers show an API key out of a file that is read again while the proxy runs."""

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Callable

from lightspeed_azure.concurrency.clock import SYSTEM_CLOCK, Clock
from lightspeed_azure.config.inbound import InboundConfiguration
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import Headers, InboundStatus
from lightspeed_azure.proxy.inbound.presented import api_key
from lightspeed_azure.proxy.inbound.rejected import Reason, Rejected, frameless
from lightspeed_azure.secrets import SecretFile

_logger = logging.getLogger("lightspeed_azure.inbound")

API_KEYS_NAME = "api_keys"
"""The file in a directory that `api_keys_file` names."""

_REREAD = 1.0
"""Seconds that a file is not read again: so much later a key is known, or known no more."""

_PATIENCE = 1.0
"""Seconds that a request waits for a disk that hangs; then the keys at hand decide."""

_SHORTEST = 16
"""Characters of a key that stands in the file as it is."""

_MOST = 1000
"""Keys: each is compared for every request."""

_HASHED = re.compile(r"sha256:[0-9a-fA-F]{64}")
_PLAIN = re.compile(r"[!-+\--~]+")


class ApiKeys:
    """Lets in whoever shows a key of the file; for use on one event loop.

    Only hashes are kept, and a key is compared with every one of them, so that the time of an
    answer tells nothing.

    Args:
        config: where the file is.
        clock: gives the time.
    """

    def __init__(self, config: InboundConfiguration, *, clock: Clock = SYSTEM_CLOCK) -> None:
        if config.api_keys_file is None:
            raise InvalidConfigurationError("proxy.inbound.api_keys_file: is missing")
        self._file = SecretFile(
            config.api_keys_file,
            default_name=API_KEYS_NAME,
            key="proxy.inbound.api_keys_file",
            check=check_api_keys,
            binary=True,
        )
        self._monotonic: Callable[[], float] = clock.monotonic
        self._hashes: frozenset[bytes] = frozenset()
        self._reread_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._reloads = 0

    async def start(self) -> None:
        """Read the file.

        Raises:
            InvalidConfigurationError: it cannot be read, or holds no keys.
        """
        await self._read()

    async def close(self) -> None:
        """End a reading under way."""
        if self._reading is not None:
            self._reading.cancel()

    async def admit(self, headers: Headers) -> None:
        """Let the request in.

        Raises:
            Rejected: its key is none of the file's.
        """
        judging = self._judge(headers)
        del headers
        await frameless(judging)

    async def _judge(self, headers: Headers) -> None:
        shown = hashlib.sha256(api_key(headers).encode("utf-8", "surrogateescape")).digest()
        if self._monotonic() >= self._reread_at:
            await self._reread()
        known = False
        for each in self._hashes:
            known |= hmac.compare_digest(each, shown)
        if not known:
            raise Rejected(Reason.API_KEY, "The API key is not known here")

    def status(self) -> InboundStatus:
        """Return a snapshot; where no caller comes, whoever looks has the file read again."""
        if self._monotonic() >= self._reread_at and _in_a_loop():
            self._begin_reading()
        return InboundStatus(
            kind="api_keys",
            ready=bool(self._hashes),
            keys=len(self._hashes),
            reloads=self._reloads,
            failures=self._file.failures,
            last_error=self._file.fault,
        )

    async def _reread(self) -> None:
        """Read the file again; whoever comes meanwhile waits for the same reading."""
        self._begin_reading()
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=_PATIENCE)

    def _begin_reading(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="read the API keys")
        self._reread_at = self._monotonic() + _REREAD

    async def _read(self) -> None:
        try:
            content = await asyncio.to_thread(self._file.read_bytes)
        finally:
            self._reading = None
        self._reread_at = self._monotonic() + _REREAD
        hashes = hashes_of(content)
        if hashes != self._hashes:
            self._hashes = hashes
            self._reloads += 1
            _logger.info("%d API keys are known now", len(hashes))


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
