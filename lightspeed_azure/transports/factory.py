"""Clients of httpx whose requests carry the current token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.stack_address import Stack, stack_configuration
from lightspeed_azure.transports.transport import AsyncTokenTransport, TokenTransport

_BELOW = frozenset(
    {"transport", "mounts", "proxy", "verify", "cert", "limits", "http1", "http2", "trust_env"}
)
"""Options of a client that httpx takes for its own transports only."""

_OWN = ("inner", "body_limit", "stream_min_remaining", "provider_credentials")
"""Options of the transport."""


def build[Client](
    kind: Callable[..., Client],
    transport: Callable[..., Any],
    stack: Stack,
    options: dict[str, Any],
    **given: Any,
) -> Client:
    """Return a client of some kind; see `async_http_client`."""
    below = _BELOW & options.keys()
    if below:
        raise TypeError(
            f"{', '.join(sorted(below))} would have no effect, or lead requests past the token; "
            "use ca_bundle=, or put a transport of your own below: inner="
        )
    own = {name: options.pop(name) for name in _OWN if name in options}
    timeout = given.pop("timeout")
    config = stack_configuration(stack, timeout=timeout, ca_bundle=given.pop("ca_bundle"))
    sending = transport(config, **given, **own)
    options.setdefault("base_url", config.url)
    return kind(transport=sending, timeout=config.timeout, **options)


def async_http_client(
    stack: Stack,
    *,
    manager: AzureEntraIDManager | None = None,
    ca_bundle: str | Path | None = None,
    timeout: float | None = None,
    family: str | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Return an `httpx.AsyncClient` whose Azure inference requests carry the current token.

    Args:
        stack: the stack's URL, with or without `/v1`, or the `llama_stack` block.
        manager: whose tokens are carried; the process-wide one by default.
        ca_bundle: PEM file of the authority that signed the stack's certificate.
        timeout: seconds without an answer; 180 by default.
        family: `llama-stack` or `ogx`; by default the stack is asked, at the first request.
        options: `inner`, `body_limit`, `stream_min_remaining` and `provider_credentials` as
            `AsyncTokenTransport` takes them; all others are the client's, such as `headers` or
            `follow_redirects`.

    Raises:
        InvalidConfigurationError: this cannot work.
        TypeError: an option would lead requests past the token.
    """
    return build(
        httpx.AsyncClient,
        AsyncTokenTransport,
        stack,
        options,
        manager=manager,
        ca_bundle=ca_bundle,
        timeout=timeout,
        family=family,
    )


def http_client(
    stack: Stack,
    *,
    manager: AzureEntraIDManager | None = None,
    ca_bundle: str | Path | None = None,
    timeout: float | None = None,
    family: str | None = None,
    **options: Any,
) -> httpx.Client:
    """Return an `httpx.Client`, for scripts and threads; takes what `async_http_client` takes.

    Raises:
        InvalidConfigurationError: this cannot work.
        TypeError: an option would lead requests past the token.
    """
    return build(
        httpx.Client,
        TokenTransport,
        stack,
        options,
        manager=manager,
        ca_bundle=ca_bundle,
        timeout=timeout,
        family=family,
    )
