"""What went wrong on the network, in words: one translation for every HTTP library in use."""

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

type Kind = Literal[
    "certificate", "tls", "proxy", "name", "refused", "timeout", "reset", "unreachable"
]

_BY_CLASS: tuple[tuple[Kind, type[BaseException], frozenset[str]], ...] = (
    ("certificate", ssl.SSLCertVerificationError, frozenset({"ClientConnectorCertificateError"})),
    ("tls", ssl.SSLError, frozenset({"SSLError", "ClientConnectorSSLError"})),
    (
        "proxy",
        ConnectionError,
        frozenset({"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError"}),
    ),
    ("name", socket.gaierror, frozenset({"NameResolutionError", "ClientConnectorDNSError"})),
    ("refused", ConnectionRefusedError, frozenset()),
    ("timeout", TimeoutError, frozenset({"Timeout", "TimeoutException", "ReadTimeoutError"})),
    (
        "reset",
        ConnectionError,
        frozenset(
            {
                "IncompleteRead",
                "IncompleteReadError",
                "ProtocolError",
                "ReadError",
                "RemoteProtocolError",
                "ServerDisconnectedError",
                "ServiceResponseError",
                "WriteError",
            }
        ),
    ),
    (
        "unreachable",
        OSError,
        frozenset({"ClientError", "ConnectError", "RequestException", "ServiceRequestError"}),
    ),
)
"""In the order in which they are looked for: the kind, a class, and names of libraries' classes.

Names stand for the classes of libraries that this package does not require: aiohttp, httpx, httpx2,
requests, urllib3, azure-core.
"""

_WORDS: dict[Kind, str] = {
    "certificate": "its certificate is not trusted",
    "tls": "no TLS connection",
    "proxy": "the HTTP proxy does not connect",
    "name": "the name does not resolve",
    "refused": "connection refused",
    "timeout": "no answer in time",
    "reset": "the connection broke",
    "unreachable": "no connection",
}


class NetworkFailure(NamedTuple):
    """Why a request got no answer.

    Attributes:
        kind: what failed.
        words: the same for people; it contains no URL and no text of a library but OpenSSL's.
        detail: what OpenSSL says of a certificate, "" otherwise.
    """

    kind: Kind
    words: str
    detail: str = ""

    def cure(self, *, url_key: str, ca_key: str, proxy: bool = True) -> str:
        """Return what to do.

        Args:
            url_key: the configuration key of the URL.
            ca_key: the configuration key of the CA bundle.
            proxy: whether the request may go through HTTPS_PROXY.
        """
        variables = ", firewalls and HTTPS_PROXY" if proxy else " and firewalls"
        if self.kind == "certificate" and "expired" in self.detail:
            return "Renew the certificate, and check this machine's clock"
        if self.kind == "certificate" and "mismatch" in self.detail.lower():
            return f"Use a name in {url_key} that the certificate is for"
        return {
            "certificate": f"A private CA, or a proxy that inspects TLS? Set {ca_key} to its "
            "certificates",
            "tls": f"Check that https and the port in {url_key} are right, and what a proxy does "
            "in between",
            "proxy": "Check HTTPS_PROXY and NO_PROXY",
            "name": f"Check {url_key} and the DNS of this machine",
            "refused": f"Check the host and port in {url_key}, and that the service runs",
            "timeout": f"Check {url_key}{variables}",
            "reset": f"Check what stands between here and {url_key}: the network{variables}",
            "unreachable": f"Check {url_key}, DNS{variables}",
        }[self.kind]


def network_failure(error: BaseException) -> NetworkFailure | None:
    """Return why a request got no answer, or None when `error` is no failure of the network.

    Args:
        error: what an HTTP library raised, or an OSError. Its causes, contexts and the errors that
            it wraps are looked at too.
    """
    chain = list(_chain(error))
    names = {cls.__name__ for one in chain for cls in type(one).__mro__}
    for kind, cls, known in _BY_CLASS:
        is_class = cls is not ConnectionError or kind == "reset"
        if names & known or (is_class and any(_is(one, cls) for one in chain)):
            break
    else:
        return None
    if kind == "tls" and "CERTIFICATE_VERIFY_FAILED" in str(error):
        kind = "certificate"  # urllib3 and httpcore keep only the text of OpenSSL's error
    messages = (getattr(one, "verify_message", "") for one in chain)
    detail = next(filter(None, messages), "") if kind == "certificate" else ""
    words = _WORDS[kind] + (f": {detail.rstrip('.')}" if detail else "")
    return NetworkFailure(kind, words, detail)


def _is(error: BaseException, cls: type[BaseException]) -> bool:
    """Return whether an error is of a class; an OSError that names a file is not the network's."""
    return isinstance(error, cls) and getattr(error, "filename", None) is None


def shown(url: str) -> str:
    """Return a URL without user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def proxy_variable(url: str) -> str:
    """Return the environment variable with the proxy that requests uses for a URL, or ""."""
    from requests.utils import get_environ_proxies, select_proxy  # noqa: PLC0415 - 0.1 s

    if not select_proxy(url, get_environ_proxies(url)):
        return ""
    scheme = url.partition(":")[0]
    names = (f"{scheme}_proxy", f"{scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), names[1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was made of: causes, contexts, wrapped and grouped errors."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        named = (getattr(one, name, None) for name in ("inner_exception", "reason", "os_error"))
        grouped = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        inner = (one.__cause__, one.__context__, *named, *one.args, *grouped)
        waiting += [other for other in inner if isinstance(other, BaseException)]
