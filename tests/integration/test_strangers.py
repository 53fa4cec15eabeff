"""A token never reaches another origin, nor a call that needs none, whatever the stack answers."""

import pytest
from aiohttp import web
from fake_stack import COMPLETION, answering, headers_of, serving, stack
from families import FAMILY
from integration_support import ask

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)

pytestmark = pytest.mark.integration

HEADER = FAMILY.header.lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("shown_in_default_headers", [False, True])
async def test_a_redirect_to_another_origin_carries_no_token(
    manager: AzureEntraIDManager, status: int, *, shown_in_default_headers: bool
) -> None:
    """Httpx would forward the header; the transport takes it off at the origin's border."""
    seen: list[dict[str, str]] = []
    at_home: list[dict[str, str]] = []

    async def stranger(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return web.json_response(COMPLETION)

    async with serving(stranger) as elsewhere:

        async def redirect(request: web.BaseRequest) -> web.StreamResponse:
            at_home.append(headers_of(request))
            return web.Response(status=status, headers={"Location": f"{elsewhere}/v1/taken"})

        async with serving(stack(redirect)) as home:
            holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
            await holder.load(LlamaStackConfiguration(url=home))
            if shown_in_default_headers:
                await holder.update_azure_token()
            await ask(holder.get_client(), "hello")
            await holder.close()
    token = manager.access_token.get_secret_value()
    assert token in at_home[0][HEADER]
    assert len(seen) == 1
    assert token not in str(seen)
    assert HEADER not in seen[0]


async def test_a_token_in_a_default_header_stays_off_other_calls(
    manager: AzureEntraIDManager,
) -> None:
    """`update_azure_token()` shows a token in the default headers; only inference sends it."""
    headers: list[tuple[str, dict[str, str]]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        headers.append((request.path, headers_of(request)))
        return await stack(answering)(request)

    async with serving(recorded) as home:
        holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
        await holder.load(LlamaStackConfiguration(url=home))
        client = await holder.update_azure_token()
        await client.models.list()
        await ask(client, "hello")
        await ask(client, "hello", model="openai/gpt-4o")
        await holder.close()
    carried = [(path, HEADER in found) for path, found in headers]
    assert carried[-2:] == [("/v1/chat/completions", True), ("/v1/chat/completions", False)]
    assert [path for path, with_token in carried if with_token] == ["/v1/chat/completions"]
