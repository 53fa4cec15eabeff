"""The generated clients of OGX, taught to carry the current token.

ogx-client as the client of a server, and ogx inside the process: every method of theirs goes through
`param_serialize`, which lays the default headers over those of the call, and `call_api`, which sends
(ogx_client/api_client.py 1.5). In library mode `initialize()` puts another `call_api` there.
"""

import asyncio
import copy
import functools
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import httpx
from ogx_client import ApiClient, AsyncApiClient, AsyncOgxClient

from lightspeed_azure.clients.answer import Refused
from lightspeed_azure.clients.closing_errors import ClosingErrors
from lightspeed_azure.clients.generation import OGX, Generation
from lightspeed_azure.clients.inference_call import Calls, MakeCalls
from lightspeed_azure.clients.listing import ask
from lightspeed_azure.clients.ogx_answer import get_json, held_answer, unless_refused
from lightspeed_azure.clients.ogx_body import check_body, checked
from lightspeed_azure.clients.pinned_transport import pinned_transport
from lightspeed_azure.clients.refusal import forget_token
from lightspeed_azure.clients.sendable import check_sendable
from lightspeed_azure.clients.starting import create_tables, initialize
from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.provider_data import (
    OGX_HEADER,
    apart_from,
    defaults,
    encode,
    merge,
    parse_defaults,
    split,
)
from lightspeed_azure.secrets import RedactedDict

_RESOURCES = "ogx_client.api."
"""Where the classes are whose methods send: `client.models`, `client.chat.completions` and so on."""

if TYPE_CHECKING:
    type LibraryClient = Any  # ogx is an optional part


def connect(
    generation: Generation, config: LlamaStackConfiguration, url: str, make_calls: MakeCalls
) -> "ServiceClient":
    """Return the client of an OGX server; sends nothing."""
    del generation  # there is one alone
    client = ServiceClient(
        base_url=url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        timeout=config.timeout,
    )
    http = httpx.AsyncClient(
        timeout=config.timeout,
        transport=ClosingErrors(pinned_transport(httpx.URL(url), config.ca_bundle)),
        follow_redirects=True,
    )
    api = AsyncApiClient(client.configuration, http_client=http)
    api.default_headers.update(client.api_client.default_headers)
    client = client.on(api)
    get = functools.partial(get_json, client.api_client)
    client.carry(make_calls(functools.partial(ask, get, "ogx")))
    return client


async def start(generation: Generation, run_config: Path, make_calls: MakeCalls) -> "LibraryClient":
    """Return a client with a whole OGX inside, started from its configuration file.

    Importing OGX takes seconds: that happens on another thread.

    Raises:
        Exception: whatever keeps OGX from starting.
    """
    # With its console log each 400 or 401 is drawn as a picture of the stack, for seconds.
    os.environ.setdefault(generation.log_variable, "json")

    def made() -> Any:
        with importing(generation.library):
            library = _library_class()
        return library(str(run_config))

    client = await asyncio.to_thread(made)
    await initialize(client)
    client.carry(make_calls(functools.partial(ask, functools.partial(get_json, client.api_client))))
    await create_tables(client)
    return client


class Carrying:
    """What the clients of this generation have in common: a request is a call that carries data.

    Attributes:
        calls: decides what a request carries.
        shown: the part of the client's own provider data that only shows a token; no request
            carries it.
    """

    api_client: Any
    generation = OGX
    calls: Calls
    shown: Mapping[str, Any] = MappingProxyType({})
    _parsed: tuple[list[str], dict[str, Any]] = ([], {})

    def carry(self, calls: Calls) -> None:
        """From now on let every request carry what it should."""
        self.calls = calls
        self.api_client.param_serialize = self._serialize
        self.api_client.call_api = self._call
        for part in vars(self).values():
            if type(part).__module__.startswith(_RESOURCES):
                part.__class__ = checked(part.__class__)

    def on(self, api: Any) -> Self:
        """Return a copy whose every part speaks through another `api_client`."""
        known: dict[int, Any] = {id(self.api_client): api}

        def copied(part: Any) -> Any:
            if id(part) not in known:
                known[id(part)] = new = copy.copy(part)
                for name, value in vars(part).items():
                    if id(value) in known or type(value).__module__.startswith(_RESOURCES):
                        vars(new)[name] = copied(value)
            return known[id(part)]

        client: Self = copied(self)
        return client

    def showing(self, values: dict[str, str]) -> Self:
        """Return a copy on the same connections, or the same stack, with this default provider data."""
        api = copy.copy(self.api_client)
        api.default_headers = {**split(api.default_headers)[0], **values}
        client = self.on(api)
        client.carry(self.calls)
        return client

    @property
    def carried(self) -> dict[str, Any]:
        """The provider data in the default headers."""
        values = split(self.api_client.default_headers)[1]
        if values != self._parsed[0]:
            self._parsed = values, parse_defaults(values)
        return self._parsed[1]

    def plain(self) -> Callable[..., Awaitable[Any]]:
        """Return the `call_api` that only sends."""
        raise NotImplementedError

    def put_on(self, headers: dict[str, Any], value: str | None) -> None:
        """Put the provider data of a request into its headers."""
        if value is not None:
            headers[OGX_HEADER] = value

    def _serialize(self, *args: Any, header_params: Any = None, **options: Any) -> Any:
        """Let the provider data of the call through; the defaults come in when it is sent."""
        given = header_params or {}
        rest, _ = split(given)
        own = {name: value for name, value in given.items() if name not in rest}
        method, url, headers, *others = ApiClient.param_serialize(
            self.api_client, *args, header_params=rest, **options
        )
        return method, url, {**split(headers)[0], **own}, *others

    async def _call(
        self,
        method: str,
        url: str,
        header_params: Any = None,
        body: Any = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Send a request; once more with a new token where Azure refused the first."""
        check_body(body, self.calls.tokens())
        headers, own = split(header_params or {})
        check_sendable(method, headers)
        call = await self.calls.of(
            method,
            url,
            body,
            default_data=apart_from(self.carried, self.shown),
            call_data=own,
            stream=isinstance(body, dict) and bool(body.get("stream")),
        )

        async def send() -> Any:
            sent = dict(headers)  # the client writes into it
            self.put_on(sent, await call.header())
            return await unless_refused(
                await self.plain()(method, url, sent, body, *args, **options)
            )

        try:
            return await call.sent_by(send, held_answer)
        except Refused as refused:
            return refused.answer  # of which the client makes its own error
        except Exception as error:
            forget_token(error)
            raise


class ServiceClient(Carrying, AsyncOgxClient):  # type: ignore[misc]  # ships for another environment
    """`AsyncOgxClient` whose inference requests carry the token of the moment they are sent."""

    def carrying(self, data: Mapping[str, Any], shown: Mapping[str, Any]) -> Self:
        """Return a new client whose default headers show this provider data."""
        client = self.showing({OGX_HEADER: encode(data)})
        client.shown = shown
        return client

    def plain(self) -> Callable[..., Awaitable[Any]]:
        """Return what sends over the network."""
        return functools.partial(AsyncApiClient.call_api, self.api_client)

    async def close(self) -> None:
        """Close the connections, those of every copy too."""
        await self.api_client.async_client.aclose()

    shutdown = close


@functools.cache
def _library_class() -> Any:
    """Return the library client's class; ogx is imported here, and only here."""
    from ogx.core.library_client import AsyncOGXAsLibraryClient  # noqa: PLC0415 - optional, and slow

    class LibraryClient(Carrying, AsyncOGXAsLibraryClient):  # type: ignore[misc]
        """OGX inside the process; its inference requests carry the current token."""

        async def initialize(self) -> bool:
            """Start the stack; it takes `call_api` for itself, and may do so again."""
            started = await super().initialize()
            if hasattr(self, "calls"):
                self.carry(self.calls)
            return bool(started)

        def carrying(self, data: Mapping[str, Any], shown: Mapping[str, Any]) -> Self:
            """Return a new client whose `provider_data` shows this."""
            client = self.showing({})
            client.provider_data = RedactedDict(data)
            client.shown = shown
            return client

        @property
        def carried(self) -> dict[str, Any]:
            """The client's provider data; assigning to `provider_data` changes it."""
            return merge((defaults(self.provider_data), super().carried))

        def plain(self) -> Callable[..., Awaitable[Any]]:
            """Return what calls the stack."""
            plain: Callable[..., Awaitable[Any]] = self._in_process_call_api
            return plain

        def put_on(self, headers: dict[str, Any], value: str | None) -> None:
            """Put on even nothing, or the stack takes `provider_data`."""
            headers[OGX_HEADER] = value or "{}"

    return LibraryClient
