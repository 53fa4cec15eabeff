"""The proxy's own certificate, read again when its files change."""

import asyncio
import logging
import ssl
from pathlib import Path

from lightspeed_azure.errors import InvalidConfigurationError

_logger = logging.getLogger(__name__)

LOOK_AGAIN = 30.0
"""Seconds between two looks at the files."""


class ServerCertificate:
    """A TLS context whose certificate follows its files.

    Args:
        certificate: PEM file with the chain.
        key: PEM file with the private key.

    Raises:
        InvalidConfigurationError: they cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._seen = self._content()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.set_alpn_protocols(["http/1.1"])
        fault = self._load()
        if fault:
            raise InvalidConfigurationError(f"proxy.tls_certificate: {fault}")

    async def follow(self, *, every: float = LOOK_AGAIN) -> None:
        """Look at the files for ever; new connections get what is new in them."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Load what has changed; a pair that does not fit yet is left for the next look.

        Returns:
            Whether there is a new certificate.
        """
        content = self._content()
        if content == self._seen:
            return False
        fault = self._load()
        if fault:
            _logger.warning("The new certificate is not used yet: it %s", fault)
            return False
        self._seen = content
        _logger.info("A new certificate is in use")
        return True

    def _load(self) -> str:
        """Load the pair, after it was tried apart; return what is wrong with it, or ""."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except FileNotFoundError:
            return "or its key is missing; correct the path, or create it"
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            return (
                f"and tls_key cannot be used together ({reason}); give a chain and its key in PEM"
            )
        return ""

    def _content(self) -> tuple[bytes, ...]:
        try:
            return tuple(file.read_bytes() for file in self._files)
        except OSError:
            return ()
