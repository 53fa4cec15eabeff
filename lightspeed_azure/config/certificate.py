"""Is this a certificate that an application can sign in with?"""

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
    """Return when a certificate ends.

    Raises:
        ValueError: it is none.
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
                raise ValueError("half-written")  # the parser leaves out what has no end
            key = serialization.load_pem_private_key(content, secret)
            certificate = x509.load_pem_x509_certificate(content)
        else:
            key, certificate, _ = pkcs12.load_key_and_certificates(content, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        failure = (
            "is not a whole certificate with its private key in PEM or PFX, or "
            "certificate_password is not its password; export it again with its key"
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
