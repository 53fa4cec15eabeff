"""Which headers go on to the stack, and which come back."""

from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

from lightspeed_azure.config.proxy import IDENTITY_HEADERS
from lightspeed_azure.provider_data import PROVIDER_DATA_HEADERS
from lightspeed_azure.secrets import RedactedStr

type Headers = CIMultiDict[str]

HOP_BY_HOP = frozenset(
    [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""Headers that are meant for the next hop alone (RFC 9110, section 7.6.1; RFC 7540, 3.2.1)."""

CREDENTIALS = frozenset(
    [
        *("api-key", "ocp-apim-subscription-key", "x-api-key", "x-goog-api-key"),
        *("authorization", "x-access-token", "x-id-token"),
        *("cookie", "cookie2"),
    ]
)
"""What a caller shows to us, and nobody else should see."""

_PROVIDER_DATA = frozenset(name.lower() for name in PROVIDER_DATA_HEADERS)

# `x-request-id`, `host` and `content-length` are set anew; `expect` is answered here.
_OURS = frozenset(
    ["content-length", "expect", "forwarded", "host", "via", "x-real-ip", "x-request-id"]
)
_NOT_BACK = (
    HOP_BY_HOP
    | _PROVIDER_DATA
    | CREDENTIALS
    | {"date", "server", "set-cookie", "set-cookie2", "x-request-id"}
)


class UnreadableHeaderError(ValueError):
    """A header's value is not text; the message names the header."""


class RequestCleaner:
    """Takes out of a request's headers what must not reach the stack.

    Args:
        strip: further names, in any letter case; `*` at the end matches any rest.
    """

    def __init__(self, strip: Iterable[str] = ()) -> None:
        patterns = [name.lower().replace("_", "-") for name in (*IDENTITY_HEADERS, *strip)]
        named = {name for name in patterns if not name.endswith("*")}
        self._names = HOP_BY_HOP | CREDENTIALS | _OURS | named
        self._beginnings = tuple(name.rstrip("*") for name in patterns if name.endswith("*"))

    def clean(self, headers: Mapping[str, str]) -> tuple[Headers, list[str]]:
        """Return what goes on to the stack, and the values of the provider data apart.

        Args:
            headers: as they came, duplicates included.

        Raises:
            UnreadableHeaderError: a value holds bytes that are no UTF-8.
        """
        kept: Headers = CIMultiDict()
        provider_data: list[str] = []
        names, beginnings = self._names, self._beginnings
        named = _connection_names(headers)
        for name, value in headers.items():
            # Some servers take an underscore for a hyphen.
            lower = name.lower().replace("_", "-")
            if lower in _PROVIDER_DATA:
                provider_data.append(RedactedStr(value))
            elif lower in names or lower in named or lower.startswith(beginnings):
                continue
            else:
                if not value.isascii():
                    _check_text(name, value)
                kept.add(name, value)
        return kept, provider_data


def clean_answer(headers: Mapping[str, str], origin: str) -> Headers:
    """Return what of the stack's headers goes back to the caller.

    Args:
        headers: as the stack sent them.
        origin: the stack's own URL, which a redirect must not show to callers.
    """
    kept: Headers = CIMultiDict()
    named = _connection_names(headers)
    for name, value in headers.items():
        lower = name.lower()
        if lower in _NOT_BACK or lower in named:
            continue
        if lower in ("location", "content-location"):
            rest = value.removeprefix(origin)
            if rest != value and rest[:1] in ("", "/", "?"):
                value = rest or "/"  # noqa: PLW2901 - the caller's own origin
        if value.isascii():
            kept.add(name, value)
    if kept.get("Content-Type", "").startswith("text/event-stream"):
        kept["X-Accel-Buffering"] = "no"  # nginx would hold the events back
        kept.setdefault("Cache-Control", "no-cache")
    return kept


def _connection_names(headers: Mapping[str, str]) -> frozenset[str]:
    """Return what `Connection` names, all of them; the names are headers for this hop."""
    if "Connection" not in headers:
        return frozenset()
    values = headers.getall("Connection")  # type: ignore[attr-defined]  # a multidict, always
    return frozenset(
        name.strip().lower().replace("_", "-") for value in values for name in value.split(",")
    )


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnreadableHeaderError(f"The header {name!r} is not UTF-8") from None
