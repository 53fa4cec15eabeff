"""Which requests go on to the stack, and which the proxy answers itself."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from lightspeed_azure.clients.inference_call import INFERENCE_PATHS, asks_a_model

OWN = ("/livez", "/readyz", "/startupz", "/client-config", "/metrics", "/openapi.json", "/status")
"""What the proxy answers itself."""

OTHER = "other"
"""The name of what is let through nowhere."""

_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_READ = ("GET", "HEAD")

LET_THROUGH: dict[str, tuple[str, ...]] = {
    "/v1/batches": _ANY,
    "/v1/chat/completions": _ANY,
    "/v1/completions": _ANY,
    "/v1/conversations": _ANY,
    "/v1/embeddings": _ANY,
    "/v1/files": _ANY,
    "/v1/health": _READ,
    "/v1/messages": _ANY,
    "/v1/models": _READ,
    "/v1/moderations": _ANY,
    "/v1/prompts": _ANY,
    "/v1/responses": _ANY,
    "/v1/safety": _ANY,
    "/v1/shields": _READ,
    "/v1/tools": _READ,
    "/v1/vector-io": _ANY,
    "/v1/vector_stores": _ANY,
    "/v1/version": _READ,
    "/v1alpha/interactions": _ANY,
}
"""Path prefixes of the stack's API that its users need (llama_stack_api 0.7, ogx_api 1.5).

Not forwarded: `/v1/providers`, `/v1/inspect` and `/v1alpha/admin`, which show the stack's internals,
and paths that register or change things for all users.
"""

_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\\ufffd]|//|(?:^|/)\.{1,2}(?:[/;]|$)|%[0-9A-Fa-f]{2}")
"""What a server or gateway on the way may read as another path, once the path is decoded.

Control characters, backslashes and bytes that are not UTF-8; empty and dot segments; `..;`, which
servlet containers read as `..`; escapes that are left, for a gateway that decodes once more.
"""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Attributes:
        name: from a fixed set; what metrics are counted by.
        methods: what may be asked there.
        path: the path as the stack reads it.
        is_inference: its body names a model.
        is_own: the proxy answers it.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    is_inference: bool = False
    is_own: bool = False


class Routes:
    """Tells where a request goes.

    Args:
        more: further beginnings of paths that are let through.

    Attributes:
        names: every name that a route may have.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._through = LET_THROUGH | dict.fromkeys((path.rstrip("/") for path in more), _ANY)
        self._depth = max(path.count("/") for path in self._through)
        self._known = {
            path: Route(path, methods, path) for path, methods in self._through.items()
        } | {path: Route(path, _READ, path, is_own=True) for path in OWN}
        self._inference = {
            path: Route(path, _ANY, path, is_inference=True) for path in INFERENCE_PATHS
        }
        self.names = (*{**self._known, **self._inference}, OTHER)

    def of(self, method: str, target: str) -> Route | None:
        """Return where a request goes, or None if the proxy does not forward it.

        The decision is made on the decoded path, as the stack reads it. Paths that two servers may
        read differently are not forwarded. The time is linear in the length of the path.

        Args:
            method: the HTTP method.
            target: the path and query as received.
        """
        path = target.partition("?")[0]
        if method == "POST" and path in self._inference:
            return self._inference[path]
        if path in self._known:
            return self._known[path]
        if "%" in path:
            path = unquote(path)
        if not path.startswith("/") or "#" in target or _AMBIGUOUS.search(path):
            return None
        path = path.rstrip("/")
        if method == "POST" and path in self._inference:
            return self._inference[path]
        return self._beginning(method, path)

    def _beginning(self, method: str, path: str) -> Route | None:
        """Return the route of the longest known beginning of a path."""
        segments = path.split("/", self._depth + 1)[: self._depth + 1]
        while segments:
            name = "/".join(segments)
            methods = self._through.get(name)
            if methods is not None:
                return Route(name, methods, path, is_inference=asks_a_model(method, path))
            segments.pop()
        return None
