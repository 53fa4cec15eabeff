"""The synchronous clients of OGX 1.x, taught to carry the current token.

All that they send goes through `api_client.call_api`: here it hands the call to the asynchronous
client on the portal's loop. So streams come piece by piece in library mode too, where
`OGXAsLibraryClient` collects them first (ogx/core/library_client.py 1.5).
"""

import functools
from collections.abc import Callable
from typing import Any, Self

from ogx_client import OgxClient
from ogx_client.rest import RESTResponse

from lightspeed_azure.clients.ogx_body import checked
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.pulled import pulled_response
from lightspeed_azure.transports.sync_source import Held, Source, StandsBefore


def synchronous(
    source: Source,
    *,
    manager: AzureEntraIDManager | None,
    stream_min_remaining: float,
    provider_credentials: Callable[[], ProviderCredentials],
) -> Any:
    """Return the synchronous client of a source."""
    del manager, stream_min_remaining, provider_credentials  # the asynchronous client has them
    return (_library_class() if source.config.use_as_library_client else ServiceClient)(source)


class Waiting:
    """What both clients have in common: each call is the asynchronous client's, and waited for."""

    api_client: Any
    _source: Source

    def stand_before(self, source: Source) -> None:
        """From now on let that client send."""
        self._source = source
        inner = source.client.api_client
        self.api_client.default_headers = inner.default_headers
        self.api_client.param_serialize = inner.param_serialize
        self.api_client.call_api = self._call
        for part in vars(self).values():
            if type(part).__module__.startswith("ogx_client.api."):
                part.__class__ = checked(part.__class__)

    def shown_as(self, held: Held, client: Any) -> Self:
        """Return a client that shows what an asynchronous one shows."""
        return type(self)(self._source.showing(held, client))  # type: ignore[call-arg]

    def close_transport(self) -> None:
        """The holder closes what the asynchronous client has."""

    def _call(self, *args: Any, **options: Any) -> Any:
        """Send a request, and wait for the answer's headers."""

        async def call(client: Any) -> Any:
            return await client.api_client.call_api(*args, **options)

        answer: Any = self._source.run(call)
        response = pulled_response(answer.response)
        response.request = answer.response.request
        return RESTResponse(response)


class ServiceClient(Waiting, OgxClient):  # type: ignore[misc]  # ships for another environment
    """`OgxClient` whose inference requests carry the token of the moment they are sent."""

    def __init__(self, source: Source) -> None:
        client = source.client
        OgxClient.__init__(self, client.configuration, api_key=client.api_key)
        self.stand_before(source)

    def close(self) -> None:
        """Close the connections, those of every copy too."""
        self._source.run(lambda client: client.close())


@functools.cache
def _library_class() -> Any:
    """Return the library client's class; ogx is there, as the asynchronous one has it."""
    from ogx.core.library_client import OGXAsLibraryClient  # noqa: PLC0415 - optional, and slow

    class LibraryClient(Waiting, StandsBefore, OGXAsLibraryClient):  # type: ignore[misc]
        """OGX inside the process; its inference requests carry the current token."""

        def __init__(self, source: Source) -> None:
            OgxClient.__init__(self)  # the stack's own would start another stack
            self.stand_before(source)

        def shutdown(self, timeout: float = 0.0) -> None:  # noqa: ARG002 - the stack's own has it
            """Shut the stack down."""
            self._source.run(lambda client: client.shutdown())

        close = shutdown

    return LibraryClient
