"""The synchronous clients made by Stainless (Llama Stack 0.7, OGX 1.0), taught to carry the token.

In service mode its own client sends through `TokenTransport`; in library mode it hands each request
to the asynchronous client, which stands on the portal's loop, and not on loops of its own as
the stack's own library client does, which serve one thread at a time.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Self

import httpx

from lightspeed_azure.clients.generation import Generation
from lightspeed_azure.errors import LightspeedAzureError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.provider_data import (
    apart_from,
    encode,
    is_provider_data,
    merge,
    parse,
    parse_defaults,
    split,
    strip,
)
from lightspeed_azure.secrets import RedactedStr
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.carrier import DEFAULT_DATA
from lightspeed_azure.transports.pulled import Steps
from lightspeed_azure.transports.sync_source import Held, Source, StandsBefore
from lightspeed_azure.transports.transport import TokenTransport


def synchronous(
    source: Source,
    *,
    manager: AzureEntraIDManager | None,
    stream_min_remaining: float,
    provider_credentials: Callable[[], ProviderCredentials],
) -> Any:
    """Return the synchronous client of a source."""
    config = source.config
    generation: Generation = source.client.generation
    if config.use_as_library_client:
        stack = import_module(generation.library)
        return _taught(Library, generation, getattr(stack, _synchronous(generation.library_class)))(
            source
        )
    package = import_module(generation.client)
    transport = TokenTransport(
        config.model_copy(update={"family": generation.family}),
        manager=manager,
        stream_min_remaining=stream_min_remaining,
        provider_credentials=provider_credentials,
    )
    return _taught(Service, generation, getattr(package, _synchronous(generation.client_class)))(
        transport,
        base_url=config.url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        timeout=config.timeout,
        http_client=package.DefaultHttpxClient(timeout=config.timeout, transport=transport),
    )


class Service:
    """The client of a server whose inference requests carry the token of the moment they are sent.

    `copy()` and `with_options()` keep that, and share the connections.

    Attributes:
        shown: the part of the client's own provider data that only shows a token; no request
            carries it.
    """

    generation: Generation
    shown: Mapping[str, Any] = MappingProxyType({})
    close: Any
    _custom_headers: Any

    def __init__(self, transport: TokenTransport, **options: Any) -> None:
        self._transport = transport
        # The constructor writes into the headers it is given; two clients must not share them.
        options["default_headers"] = dict(options.get("default_headers") or {})
        super().__init__(**options)

    def copy(self, **options: Any) -> Self:
        """Return a client with other options, on the same connections."""
        if options.get("http_client") is not None:
            raise TypeError("A copy keeps the connections, which keep tokens at the one origin")
        parent: Any = super()
        client: Self = parent.copy(**options, _extra_kwargs={"transport": self._transport})
        client.shown = self.shown
        return client

    with_options = copy

    def shown_as(self, held: Held, client: Any) -> Self:
        """Return a new client whose default headers show what an asynchronous one's show."""
        del held
        rest, _ = split(self._custom_headers)
        shown = self.copy(
            set_default_headers={**rest, self.generation.header: encode(client.carried)}
        )
        shown.shown = client.shown
        return shown

    @functools.cached_property
    def carried(self) -> dict[str, Any]:
        """The provider data in the default headers."""
        return parse_defaults(split(self._custom_headers)[1])

    def request(self, cast_to: Any, options: Any, **stream: Any) -> Any:
        """Send a request; raises our own errors as they are."""
        parent: Any = super()
        try:
            return parent.request(cast_to, options, **stream)
        except Exception as error:  # the client's APIConnectionError
            if isinstance(error.__cause__, LightspeedAzureError):
                raise error.__cause__ from None
            raise

    def _prepare_request(self, request: httpx.Request) -> None:
        """Say which data is the default, and wait for the token; called for each attempt."""
        default = split(self._custom_headers)[1]
        own = [
            RedactedStr(value)
            for name, value in request.headers.multi_items()
            if is_provider_data(name) and value not in default
        ]
        strip(request.headers)
        if own:
            request.headers[self.generation.header] = encode(merge(parse(value) for value in own))
        default_data = apart_from(self.carried, self.shown)
        request.extensions = {**request.extensions, DEFAULT_DATA: default_data}
        self._transport.prepare(request)

    def close_transport(self) -> None:
        """Close the connections, those of every copy too."""
        self.close()


class PulledStream:
    """The events of a stream that lives on the portal's loop.

    Everything else, such as `response`, is the stream's own.
    """

    def __init__(self, stream: Any, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._steps = Steps()

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":
            raise AttributeError(name)  # an instance without __init__: copy, pickle
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        end = object()

        async def pull() -> Any:
            return await anext(self._stream, end)

        event = self._source.run(lambda _: self._steps.run(pull()))
        if event is end:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the stream."""
        self._source.run(lambda _: self._stream.close())


class Library(StandsBefore):
    """The stack inside the process; its inference requests carry the current token."""

    generation: Generation

    def __init__(self, source: Source) -> None:
        # The library client's own constructor would start another stack.
        client: Any = getattr(
            import_module(self.generation.client), _synchronous(self.generation.client_class)
        )
        client.__init__(self)
        self._source = source

    def shown_as(self, held: Held, client: Any) -> Self:
        """Return a client that shows what an asynchronous one shows."""
        return type(self)(self._source.showing(held, client))

    def copy(self, **options: Any) -> Self:
        """Return a client on the same stack; takes `provider_data` only."""
        return type(self)(self._source.copied(lambda client: client.copy(**options)))

    with_options = copy

    def request(self, cast_to: Any, options: Any, **stream: Any) -> Any:
        """Hand a request over, and wait for the answer, or the beginning of a stream."""
        answer = self._source.run(lambda client: client.request(cast_to, options, **stream))
        return PulledStream(answer, self._source) if stream.get("stream") else answer

    def shutdown(self) -> None:
        """Shut the stack down."""
        self._source.run(lambda client: client.shutdown())

    def close_transport(self) -> None:
        """The holder shuts the stack down."""


@functools.cache
def _taught(kind: type, generation: Generation, plain: type) -> Any:
    """Return a class that is the stack's own client, with ours before it."""
    return type(f"{kind.__name__}Client", (kind, plain), {"generation": generation})


def _synchronous(name: str) -> str:
    return name.removeprefix("Async")
