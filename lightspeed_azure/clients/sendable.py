"""Check a request before a token is attached to it.

A request that HTTP does not allow, such as one with a line break in a header, raises an error in h11
whose frames hold all headers. Debuggers and error trackers would show the token there.
"""

import re
from collections.abc import Mapping
from typing import Any

import h11
import httpx

from lightspeed_azure.errors import ProviderDataError
from lightspeed_azure.provider_data import is_provider_data

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""


def check_sendable(method: str, headers: httpx.Headers | Mapping[str, Any]) -> None:
    """Refuse a request that h11 would refuse, provider data apart.

    Args:
        method: the HTTP method.
        headers: the caller's own headers.

    Raises:
        ProviderDataError: it cannot be sent; the text shows no value.
    """
    fault = _fault(method, headers)
    if fault:  # raised here, so that no frame of the error holds a header
        raise ProviderDataError(f"{fault}, so the request cannot be sent. Nothing was sent")


def _fault(method: str, headers: httpx.Headers | Mapping[str, Any]) -> str:
    if not _TOKEN.fullmatch(method):
        return "The HTTP method is not valid"
    try:
        raw = httpx.Headers(headers).raw
    except (TypeError, ValueError):
        return "A header's name or value is not text in ASCII"
    raw = [item for item in raw if not is_provider_data(item[0].decode("latin-1"))]
    try:
        h11.Request(method=method, target="/", headers=_with_host(raw))
    except h11.LocalProtocolError:
        return _which(raw)
    return ""


def _with_host(raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    if any(name.lower() == b"host" for name, _ in raw):
        return raw
    return [(b"Host", b"localhost"), *raw]


def _which(raw: list[tuple[bytes, bytes]]) -> str:
    """Return which header is at fault."""
    for name, value in raw:
        shown = name.decode("latin-1")
        if not _TOKEN.fullmatch(shown):
            return "A header's name holds a space, a line break or another character that names cannot have"
        try:
            h11.Request(method="GET", target="/", headers=_with_host([(name, value)]))
        except h11.LocalProtocolError:
            return (
                f"The value of the header {shown} is not valid (for example, it holds a line break)"
            )
    return "The headers Host, Content-Length or Transfer-Encoding contradict each other"
