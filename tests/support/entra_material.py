"""Certificates and assertions that applications sign in with."""

import datetime as dt
import functools
import time
import uuid
from collections.abc import Sequence

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

ISSUER = "https://cluster.test"
SUBJECT = "system:serviceaccount:lightspeed:stack"
AUDIENCE = "api://AzureADTokenExchange"


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """Return the same key for the same number: making one takes a while."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Certificate:
    """A self-signed certificate with its key.

    Args:
        number: another number, another key.
        days: how long it is valid from now; negative: it has ended.
        elliptic: with a key that Entra ID does not take.
        host: the name of a server that may show it.
    """

    def __init__(
        self, number: int = 0, *, days: float = 1, elliptic: bool = False, host: str = "lightspeed"
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa_key(number)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lightspeed")])
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - dt.timedelta(days=10))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def public(self) -> bytes:
        """The certificate alone, in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def pem(self, password: str | None = None, *, chain: Sequence["Certificate"] = ()) -> bytes:
        """Return key and certificate in PEM, with more certificates behind."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            _encryption(password),
        )
        return private + self.public + b"".join(each.public for each in chain)

    def pfx(self, password: str | None = None, *, chain: Sequence["Certificate"] = ()) -> bytes:
        """Return key and certificate in PKCS#12, with more certificates."""
        more = [each.certificate for each in chain] or None
        return pkcs12.serialize_key_and_certificates(
            b"lightspeed", self.key, self.certificate, more, _encryption(password)
        )


def _encryption(password: str | None) -> serialization.KeySerializationEncryption:
    if password is None:
        return serialization.NoEncryption()
    return serialization.BestAvailableEncryption(password.encode())


def public_key(number: int = 0) -> str:
    """Return the key of the assertions' issuer, in PEM."""
    return (
        rsa_key(number)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def assertion(*, number: int = 0, seconds: float = 600, **claims: object) -> str:
    """Return a service account's token as a cluster projects it.

    Args:
        number: which key signs.
        seconds: until it ends; negative: it has ended.
        **claims: in the place of the usual ones.
    """
    now = int(time.time())
    usual = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "jti": str(uuid.uuid4())}
    times = {"iat": now - 1200, "nbf": now - 1200, "exp": now + int(seconds)}
    return jwt.encode({**usual, **times, **claims}, rsa_key(number), algorithm="RS256")
