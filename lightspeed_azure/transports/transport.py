"""The transports that people put under a client of their own, for httpx."""

from typing import Any

import httpx

from lightspeed_azure.clients.inference_call import Call
from lightspeed_azure.concurrency.loop_thread import OnPortal
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.transports.carrier import LEFT, TokenCarrier
from lightspeed_azure.transports.pulled import pulled_response, pushed_request
from lightspeed_azure.transports.stack_address import Stack, stack_configuration


def carrier(
    stack: Stack,
    *,
    manager: AzureEntraIDManager | None = None,
    ca_bundle: Any = None,
    family: str | None = None,
    provider_credentials: Any = None,
    **options: Any,
) -> TokenCarrier:
    """Return what carries tokens to a stack; see `AsyncTokenTransport`."""
    config = stack_configuration(stack, ca_bundle=ca_bundle, family=family)

    def whose() -> AzureEntraIDManager:
        return manager or AzureEntraIDManager()

    if not callable(provider_credentials):
        credentials = ProviderCredentials.of(provider_credentials, whose)
        return TokenCarrier(config, whose, provider_credentials=lambda: credentials, **options)
    return TokenCarrier(config, whose, provider_credentials=provider_credentials, **options)


class AsyncTokenTransport(httpx.AsyncBaseTransport):
    """Puts the current token on every Azure inference request of an `httpx.AsyncClient`.

    A token, and the caller's own provider data, goes to the stack's origin only, on whichever hop
    of a redirect. Nothing is asked before the first request. Belongs to one event loop.

    Args:
        stack: the stack's URL, with or without `/v1`, or the `llama_stack` block.
        manager: whose tokens are carried; the process-wide one by default.
        ca_bundle: PEM file of the authority that signed the stack's certificate.
        family: `llama-stack` or `ogx`; by default the stack is asked, at the first request.
        inner: an async httpx transport that sends, such as one with a client certificate;
            `ca_bundle` and proxies are its own matter then.
        stream_min_remaining: seconds of life that a token should have left when a stream starts.
        body_limit: bytes of a streamed body that are read into memory to find the model in it.
        provider_credentials: the keys of other providers, as `Configuration.provider_credentials`
            has them, or as one writes them there.

    Raises:
        InvalidConfigurationError: this cannot work.
    """

    def __init__(self, stack: Stack, **options: Any) -> None:
        self._carrier = carrier(stack, **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop of a request.

        Raises:
            TokenError: no token can be had; nothing was sent.
            StackUnavailableError: the stack does not say what it serves; nothing was sent.
            ProviderDataError: the caller's headers or body are not usable; nothing was sent.
        """
        return await self._carrier.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._carrier.aclose()


class TokenTransport(httpx.BaseTransport):
    """The same for an `httpx.Client`. Safe to use from any thread, and after a fork.

    Args:
        stack: as for `AsyncTokenTransport`.
        options: its other arguments; `inner` is a callable here, which returns the async transport
            that sends, for each process its own.

    Raises:
        InvalidConfigurationError: this cannot work.
    """

    def __init__(self, stack: Stack, **options: Any) -> None:
        inner = options.pop("inner", None)

        def make() -> TokenCarrier:
            return carrier(stack, **options, inner=inner() if inner else None)

        stack_configuration(
            stack, ca_bundle=options.get("ca_bundle"), family=options.get("family")
        )  # what cannot work is said here, not at the first request
        self._carrier = OnPortal(make, lambda held: held.aclose())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop of a request; waits for the answer's headers.

        Raises:
            TokenError: no token can be had; nothing was sent.
            StackUnavailableError: the stack does not say what it serves; nothing was sent.
            ProviderDataError: the caller's headers or body are not usable; nothing was sent.
        """
        sent = pushed_request(request)
        try:
            response = self._carrier.run(lambda held: held.handle_async_request(sent))
        finally:
            if LEFT in sent.extensions:
                request.extensions = {**request.extensions, LEFT: True}
        return pulled_response(response)

    def prepare(self, request: httpx.Request) -> None:
        """Find out what a request will carry, and wait for a token if it needs one.

        Raises:
            LightspeedAzureError: what `handle_request` would raise.
        """

        async def prepared(held: TokenCarrier) -> None:
            call: Call = await held.call_of(pushed_request(request))
            await call.header()

        self._carrier.run(prepared)

    def close(self) -> None:
        """Close the connections."""
        self._carrier.close()
