"""The clients made by Stainless, taught to carry the current token.

llama-stack-client and ogx-client 1.0 as the clients of a server (service mode), and the client with
the stack inside the process that is built on them (library mode).
"""

import asyncio
import copy
import functools
import os
from collections.abc import Mapping
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import httpx

from lightspeed_azure.clients.generation import Generation
from lightspeed_azure.clients.inference_call import Call, Calls, MakeCalls
from lightspeed_azure.clients.listing import ask
from lightspeed_azure.clients.pinned_transport import pinned_transport
from lightspeed_azure.clients.refusal import forget_token
from lightspeed_azure.clients.sendable import check_sendable
from lightspeed_azure.clients.starting import create_tables, initialize
from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.provider_data import (
    apart_from,
    defaults,
    encode,
    parse_defaults,
    split,
    strip,
)
from lightspeed_azure.secrets import RedactedDict

_sending: ContextVar[Call | None] = ContextVar("lightspeed_azure_sending", default=None)


def connect(
    generation: Generation, config: LlamaStackConfiguration, url: str, make_calls: MakeCalls
) -> "Service":
    """Return the client of a server; sends nothing."""
    package = import_module(generation.client)
    client: Service = _taught(Service, generation, getattr(package, generation.client_class))(
        base_url=url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        timeout=config.timeout,
        http_client=package.DefaultAsyncHttpxClient(
            timeout=config.timeout, transport=pinned_transport(httpx.URL(url), config.ca_bundle)
        ),
    )
    client.calls = make_calls(functools.partial(ask, client.get_json, generation.family))
    return client


async def start(generation: Generation, run_config: Path, make_calls: MakeCalls) -> "Library":
    """Return a client with a whole stack inside, started from its configuration file.

    Importing a stack takes seconds: that happens on another thread.

    Raises:
        Exception: whatever keeps the stack from starting.
    """
    # With its console log each 400 or 401 is drawn as a picture of the stack, for seconds.
    os.environ.setdefault(generation.log_variable, "json")

    def made() -> Library:
        with importing(generation.library):
            stack = import_module(generation.library)
        library: Library = _taught(Library, generation, getattr(stack, generation.library_class))(
            str(run_config)
        )
        return library

    client = await asyncio.to_thread(made)
    await initialize(client)
    client.calls = make_calls(functools.partial(ask, client.get_json))
    await create_tables(client)
    return client


class Carrying:
    """What these clients have in common: a request is a call that carries data.

    Attributes:
        generation: names the header.
        calls: decides what a request carries.
        carried: the client's own provider data.
        shown: the part of it that only shows a token; no request carries it.
    """

    generation: Generation
    calls: Calls
    carried: Any
    shown: Mapping[str, Any] = MappingProxyType({})
    get: Any
    shutdown: Any

    async def request(self, cast_to: Any, options: Any, **stream: Any) -> Any:
        """Send a request; once more with a new token where Azure refused the first."""
        call = await self.calls.of(
            options.method,
            options.url,
            _body(options),
            default_data=apart_from(self.carried, self.shown),
            call_data=split(_headers(options))[1],
            stream=stream.get("stream", False),
        )
        try:
            return await call.sent_by(lambda: self.send(call, cast_to, options, stream))
        except Exception as error:
            forget_token(error)
            raise

    async def get_json(self, path: str) -> Any:
        """Return what the stack answers to a path."""
        return await self.get(path, cast_to=object)

    async def send(self, call: Call, cast_to: Any, options: Any, stream: dict[str, Any]) -> Any:
        """Send a request once, with what the call carries at this moment."""
        raise NotImplementedError

    async def plain(self, cast_to: Any, options: Any, stream: dict[str, Any]) -> Any:
        """Send a request as the client by itself does."""
        parent: Any = super()
        return await parent.request(cast_to, options, **stream)


class Service(Carrying):
    """The client of a server whose inference requests carry the token of the moment they are sent.

    `copy()` and `with_options()` keep that, and share the connections.
    """

    close: Any
    _custom_headers: Any

    def __init__(self, **options: Any) -> None:
        # The constructor writes into the headers it is given; two clients must not share them.
        options["default_headers"] = dict(options.get("default_headers") or {})
        super().__init__(**options)

    def copy(self, **options: Any) -> Self:
        """Return a client with other options, on the same connections."""
        if options.get("http_client") is not None:
            raise TypeError("A copy keeps the connections, which keep tokens at the one origin")
        parent: Any = super()
        client: Self = parent.copy(**options)
        client.calls, client.shown = self.calls, self.shown
        return client

    with_options = copy

    def carrying(self, data: Mapping[str, Any], shown: Mapping[str, Any]) -> Self:
        """Return a new client whose default headers show this provider data."""
        rest, _ = split(self._custom_headers)
        client = self.copy(set_default_headers={**rest, self.generation.header: encode(data)})
        client.shown = shown
        return client

    @functools.cached_property
    def carried(self) -> dict[str, Any]:
        """The provider data in the default headers."""
        return parse_defaults(split(self._custom_headers)[1])

    async def send(self, call: Call, cast_to: Any, options: Any, stream: dict[str, Any]) -> Any:
        """Send a request once; `_prepare_request` puts the token on."""
        before = _sending.set(call)
        try:
            return await self.plain(cast_to, options, stream)
        finally:
            _sending.reset(before)

    async def _prepare_request(self, request: httpx.Request) -> None:
        """Put the token on; called for each attempt, after the request was logged."""
        call = _sending.get()
        if call is not None:
            strip(request.headers)
            check_sendable(request.method, request.headers)
            header = await call.header()
            if header is not None:
                request.headers[self.generation.header] = header

    async def shutdown(self) -> None:
        """Close the connections, those of every copy too."""
        await self.close()


class Library(Carrying):
    """The stack inside the process; its inference requests carry the current token."""

    initialize: Any
    provider_data: Any

    def copy(self, **options: Any) -> Self:
        """Return a client on the same stack; takes `provider_data` only."""
        client = copy.copy(self)
        for name in [n for n in vars(client) if _is_cached(type(client), n)]:
            delattr(client, name)  # resources that would speak through the other client
        client.provider_data = options.pop("provider_data", self.provider_data)
        if options:
            raise TypeError(f"In library mode a copy cannot change {sorted(options)}")
        return client

    with_options = copy

    def carrying(self, data: Mapping[str, Any], shown: Mapping[str, Any]) -> Self:
        """Return a new client whose `provider_data` shows this."""
        client = self.copy(provider_data=RedactedDict(data))
        client.shown = shown
        return client

    @property
    def carried(self) -> dict[str, Any]:
        """The client's provider data; assigning to `provider_data` changes it."""
        return defaults(self.provider_data)

    async def send(self, call: Call, cast_to: Any, options: Any, stream: Any) -> Any:
        """Call the stack once."""
        header = await call.header()
        options = options.model_copy()
        options.headers = split(_headers(options))[0]
        options.headers[self.generation.header] = header or "{}"
        return await self.plain(cast_to, options, stream)


@functools.cache
def _taught(kind: type[Carrying], generation: Generation, plain: type) -> Any:
    """Return a class that is the stack's own client, with ours before it."""
    return type(f"{kind.__name__}Client", (kind, plain), {"generation": generation})


def _body(options: Any) -> Any:
    body = options.json_data
    if options.extra_json and (body is None or isinstance(body, Mapping)):
        return {**(body or {}), **options.extra_json}
    return body


def _headers(options: Any) -> dict[str, Any]:
    return dict(options.headers) if isinstance(options.headers, dict) else {}


def _is_cached(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), functools.cached_property)
