"""Ask an OGX what it serves."""

import asyncio
import json
from typing import Any

from ogx_client.exceptions import ApiException

from lightspeed_azure.clients.stack_catalog import AZURE_PROVIDER_TYPE, Listing
from lightspeed_azure.errors import LightspeedAzureError, StackUnavailableError


async def ask(client: Any) -> Listing:
    """Ask without a token: with one OGX would ask Azure in turn.

    Args:
        client: a client of OGX.

    Raises:
        StackUnavailableError: it does not answer, or with an error.
    """
    try:
        models, providers = await asyncio.gather(
            _data(client.api_client, "/v1/models"), _data(client.api_client, "/v1/providers")
        )
    except LightspeedAzureError:
        raise
    except Exception as error:  # noqa: BLE001 - as unlike as a server's and a stack's own
        status = getattr(error, "status", None)
        said = f"answered {status}" if status else f"gave no answer ({type(error).__name__})"
        raise StackUnavailableError(
            f"OGX {said} when asked for its models and providers, so nobody can tell which models "
            "need a token; check llama_stack.url and api_key, and that it runs"
        ) from None
    return Listing(
        models={
            model["id"]: str(model["custom_metadata"]["provider_id"])
            for model in models
            if (model.get("custom_metadata") or {}).get("provider_id")
        },
        azure_providers={
            provider["provider_id"]: (provider["config"] or {}).get("base_url") or None
            for provider in providers
            if provider["provider_type"] == AZURE_PROVIDER_TYPE
        },
    )


async def _data(api: Any, path: str) -> list[dict[str, Any]]:
    """Return a list as OGX sent it; the client's own types refuse an empty one."""
    answer = await api.call_api(*api.param_serialize("GET", path))
    text = await answer.aread()
    if answer.status != 200:
        raise ApiException(http_resp=answer, body=text.decode(errors="replace"))
    data: list[dict[str, Any]] = json.loads(text)["data"]
    return data
