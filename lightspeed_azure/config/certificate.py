"""Checks and reads the certificate that an application signs in with."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr


def certificate_check(password: SecretStr | None) -> Callable[[bytes], None]:
    """Return a check of a file's content: a certificate and its RSA key, in PEM or PFX.

    The check raises ValueError with one clause; a half-written file does not pass.
    """

    def check(content: bytes) -> None:
        _load(content, password)

    return check


def expiry(content: bytes, password: SecretStr | None) -> datetime:
    """Return when a certificate expires.

    Raises:
        ValueError: it is not a certificate with its key.
    """
    end: datetime = _load(content, password).not_valid_after_utc
    return end.astimezone(UTC)


def _load(content: bytes, password: SecretStr | None) -> Any:
    """Return the certificate of a PEM or PFX file with the key that belongs to it."""
    from cryptography import x509  # noqa: PLC0415 - only certificates need it
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import pkcs12  # noqa: PLC0415

    secret = password.get_secret_value().encode() if password else None
    failure = ""
    certificate, key = None, None
    try:
        if b"-----BEGIN" in content:
            if content.count(b"-----BEGIN ") != content.count(b"-----END "):
                raise ValueError("half-written")  # the parser skips a block without an end
            key = serialization.load_pem_private_key(content, secret)
            certificate = x509.load_pem_x509_certificate(content)
        else:
            key, certificate, _ = pkcs12.load_key_and_certificates(content, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        failure = (
            "is not a whole certificate with its private key in PEM or PFX, or "
            "certificate_password is not its password; export it again with its key"
        )
    if failure and _is_base64_of_pfx(content):
        failure = (
            "is a PFX in Base64, as the Key Vault CSI driver writes it; set objectEncoding: base64 "
            "for this object in the SecretProviderClass, or decode the file"
        )
    if not failure and (certificate is None or key is None):
        failure = "lacks the certificate or its private key; export it with both"
    elif not failure and not isinstance(key, RSAPrivateKey):
        failure = "has a key that is not RSA, which Entra ID needs; make an RSA certificate"
    elif certificate and key and certificate.public_key() != key.public_key():
        failure = "holds a certificate and a key that do not belong together; export it again"
    if failure:
        raise ValueError(failure)
    return certificate


def _is_base64_of_pfx(content: bytes) -> bool:
    """Return whether this is Base64 of DER that begins as a PFX does (RFC 7292, section 4)."""
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
    except ValueError:
        return False
    return decoded[:1] == b"\x30" and b"\x02\x01\x03" in decoded[:10]
