"""X.509: a throw-away certificate authority, and the certificates that applications register."""

import base64
import datetime as dt
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALIDITY = dt.timedelta(days=2)  # longer than anyone leaves a demo running
_CLOCK_SKEW = dt.timedelta(hours=2)  # tests set clocks wrong by an hour either way


class CertificateAuthority:
    """A certificate authority that lives as long as its object; its private key stays in memory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("lightspeed-azure emulators (throw-away)")
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """Return the authority's certificate, for clients to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """Return a TLS context with a new certificate for localhost, 127.0.0.1, ::1 and `hosts`.

        The ssl module reads keys from files only: the key lies in a private directory for that
        moment, and is deleted before this returns.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
            *(x509.DNSName(host) for host in hosts),
        ]
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(_name("localhost"), self._name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(prefix="lightspeed-azure-") as file:  # mode 0600
            file.write(private + certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        return context


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The public certificate of an application, as Entra ID keeps it.

    Args:
        sha1: the thumbprint as the JOSE header ``x5t`` spells it.
        sha256: the thumbprint as ``x5t#S256`` spells it.
    """

    sha1: str
    sha256: str
    public_key: RSAPublicKey = field(repr=False)

    @classmethod
    def from_pem(cls, pem: str | bytes | Path) -> "ClientCertificate":
        """Read the first certificate of a PEM text or file; a private key beside it is ignored.

        Raises:
            ValueError: there is no certificate in it, or its key is not RSA.
        """
        data = pem.read_bytes() if isinstance(pem, Path) else pem
        certificate = x509.load_pem_x509_certificate(
            data.encode() if isinstance(data, str) else data
        )
        public_key = certificate.public_key()
        if not isinstance(public_key, RSAPublicKey):
            raise ValueError("Entra ID accepts RSA certificates only")  # noqa: TRY004 - the value
        return cls(
            sha1=_thumbprint(certificate.fingerprint(hashes.SHA1())),  # noqa: S303 - x5t is SHA-1
            sha256=_thumbprint(certificate.fingerprint(hashes.SHA256())),
            public_key=public_key,
        )


def _thumbprint(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
