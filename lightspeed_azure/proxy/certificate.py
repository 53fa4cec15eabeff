"""The proxy's own TLS certificate, loaded again when its files change."""

import asyncio
import logging
import ssl
from pathlib import Path

from lightspeed_azure.errors import InvalidConfigurationError

_logger = logging.getLogger(__name__)

LOOK_AGAIN = 30.0
"""Seconds between two checks of the files."""


class _EncryptedKeyError(Exception):
    """The private key needs a passphrase."""


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
            raise InvalidConfigurationError(f"proxy.{fault}")

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
            _logger.warning("The new certificate is not used yet; proxy.%s", fault)
            return False
        self._seen = content
        _logger.info("A new certificate is in use")
        return True

    def _load(self) -> str:
        """Load the pair, after trying it in another context.

        Returns:
            The key of the configuration and what is wrong with it; "" if the pair is loaded.
        """
        certificate, key = self._files
        try:
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
                context.load_cert_chain(certificate, key, password=_no_passphrase)
        except _EncryptedKeyError:
            return (
                f"tls_key: {key} is encrypted, and the proxy cannot ask for the passphrase; "
                f"decrypt it: openssl pkey -in {key} -out <file>"
            )
        except (OSError, ssl.SSLError) as error:
            for name, file in (("tls_certificate", certificate), ("tls_key", key)):
                if not file.exists():
                    return f"{name}: {file} does not exist; correct the path, or create the file"
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
            return (
                f"tls_certificate: {certificate} cannot be used with tls_key ({reason}); "
                "give a certificate chain and its private key in PEM"
            )
        return ""

    def _content(self) -> tuple[bytes, ...]:
        try:
            return tuple(file.read_bytes() for file in self._files)
        except OSError:
            return ()


def _no_passphrase() -> str:
    """Refuse to give a passphrase; without this OpenSSL would ask the terminal for it.

    Raises:
        _EncryptedKeyError: always.
    """
    raise _EncryptedKeyError
