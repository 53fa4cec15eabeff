"""An issuer of JWTs on real sockets, which rotates keys and misbehaves on demand."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from joserfc import util
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from multidict import CIMultiDict, CIMultiDictProxy

from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.faults import Fault, FaultQueue
from lightspeed_azure.emulators.server import ServerThread, Site
from lightspeed_azure.emulators.service import Handling, Request, Response

AUDIENCE = "llm-proxy"

_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def key(alg: str = "RS256", number: int = 0) -> Key:
    """Return the same private key for the same arguments; its kid names both."""
    return _key(alg, number)


@cache  # tells key() from key("RS256"), so both come with all arguments
def _key(alg: str, number: int) -> Key:
    named: Any = {"kid": f"{alg}-{number}"}
    if alg in _CURVES:
        return ECKey.generate_key(_CURVES[alg], named)
    if alg in ("EdDSA", "Ed25519", "Ed448"):
        return OKPKey.generate_key("Ed448" if alg == "Ed448" else "Ed25519", named)
    if alg.startswith("HS"):
        return OctKey.generate_key(256, named)
    return RSAKey.generate_key(2048, named)


def rsa_pem() -> bytes:
    """Return the usual public key, which everybody knows, in PEM."""
    usual = key()
    assert isinstance(usual, RSAKey)
    return usual.as_pem(private=False)


def claims(**more: Any) -> dict[str, Any]:
    """Return the claims of a good token, with others in their place; None takes one away."""
    now = int(time.time())
    usual = {
        "iss": "https://sso.example.test/realms/main",
        "aud": AUDIENCE,
        "sub": "somebody",
        "iat": now - 10,
        "nbf": now - 10,
        "exp": now + 300,
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


def sign(
    body: Mapping[str, Any] | bytes,
    *,
    alg: str = "RS256",
    by: Key | None = None,
    header: Mapping[str, Any] | None = None,
) -> str:
    """Return a signed token, also such as no issuer would make.

    Args:
        body: the claims, or the very bytes of the payload.
        alg: what the header says and the signature is made by.
        by: the key; None: the usual one of the algorithm.
        header: further parameters, or others in the place of the usual; None takes one away.
    """
    signer = by or key(alg)
    usual = {"alg": alg, "kid": signer.kid, "typ": "JWT"} | dict(header or {})
    protected = {name: value for name, value in usual.items() if value is not None}
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    segments = f"{_base64url(json.dumps(protected).encode())}.{_base64url(payload)}"
    signature = JWSRegistry.algorithms[alg].sign(segments.encode(), signer)
    return f"{segments}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return util.urlsafe_b64encode(data).decode()


def headers(*values: str, **more: str) -> CIMultiDictProxy[str]:
    """Return the headers of a request: each value is one Authorization."""
    pairs = [("authorization", value) for value in values]
    return CIMultiDictProxy(
        CIMultiDict([*pairs, *((name.replace("_", "-"), value) for name, value in more.items())])
    )


def bearing(token: str) -> CIMultiDictProxy[str]:
    """Return the headers of a request with a bearer token."""
    return headers(f"Bearer {token}")


class Issuer:
    """Serves discovery at `/.well-known/openid-configuration`, and its keys at `/jwks`.

    Attributes:
        url: where it is.
        issuer: what it says that it is called.
        document: what it serves as its keys; set by `publish`.
        asked: the paths of all requests.
    """

    name = "issuer"

    def __init__(self) -> None:
        self.url = ""
        self.issuer = ""
        self.document: object = {}
        self.discovery: dict[str, object] = {}
        self.asked: list[str] = []
        self.released = threading.Event()
        self._faults = FaultQueue()

    def publish(self, keys: Iterable[Key]) -> None:
        """Let these be the keys from now on."""
        self.document = KeySet(list(keys)).as_dict(private=False)

    def fault(self, fault: Fault, *, times: int | None = None) -> None:
        """Misbehave."""
        self._faults.add(fault, times=times, on=frozenset({"all"}))

    def recover(self) -> None:
        """Be well again."""
        self._faults.clear()

    def receive(self, request: Request) -> Handling:
        """Response."""
        self.asked.append(request.path)
        fault = self._faults.take("all")
        if request.path == "/jwks":
            return Handling(fault, lambda: Response.of(self.document))
        if request.path == "/.well-known/openid-configuration":
            found = {"issuer": self.issuer, "jwks_uri": f"{self.url}/jwks"} | self.discovery
            return Handling(fault, lambda: Response.of(found))
        if request.path == "/redirect":
            away = {"Location": f"{self.url}/jwks"}
            return Handling(fault, lambda: Response.of({}, status=302, headers=away))
        return Handling(fault, lambda: Response.of({}, status=404))

    def refusal(self, fault: Fault) -> Response:
        """Return the body of a fault."""
        return Response.of({"error": "unavailable"}, status=fault.code)


@contextmanager
def serving(authority: CertificateAuthority | None = None) -> Iterator[Issuer]:
    """Serve an issuer on the loopback interface, over TLS when an authority is given."""
    issuer = Issuer()
    server = ServerThread()
    (port,) = server.start([Site(issuer, 0, authority.server_context() if authority else None)])
    issuer.url = f"https://localhost:{port}" if authority else f"http://127.0.0.1:{port}"
    issuer.issuer = issuer.url
    try:
        yield issuer
    finally:
        server.stop()
