"""Ask a stack what it serves."""

import asyncio
from typing import Any

from lightspeed_azure.clients.stack_catalog import AZURE_PROVIDER_TYPE, Listing
from lightspeed_azure.errors import LightspeedAzureError, StackUnavailableError


async def ask(client: Any) -> Listing:
    """Ask without a token: with one the stack would ask Azure in turn.

    Args:
        client: a client of the stack.

    Raises:
        StackUnavailableError: it does not answer.
        Exception: the client's own error, when the stack answers with one.
    """
    try:
        models, providers = await asyncio.gather(client.models.list(), client.providers.list())
    except LightspeedAzureError:
        raise
    except Exception as error:
        if getattr(error, "status_code", None) is not None:
            raise
        raise StackUnavailableError(
            f"Llama Stack at {client.base_url} does not answer ({type(error).__name__}); check "
            "llama_stack.url, and that it runs"
        ) from None
    return Listing(
        models={
            model.id: str(model.custom_metadata["provider_id"])
            for model in models
            if model.custom_metadata and model.custom_metadata.get("provider_id")
        },
        azure_providers={
            provider.provider_id: (provider.config or {}).get("base_url") or None
            for provider in providers
            if provider.provider_type == AZURE_PROVIDER_TYPE
        },
    )
