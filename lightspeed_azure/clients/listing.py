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
        StackUnavailableError: it does not answer, or with an error.
    """
    try:
        models, providers = await asyncio.gather(client.models.list(), client.providers.list())
    except LightspeedAzureError:
        raise
    except Exception as error:  # noqa: BLE001 - each client's errors are its own
        status = getattr(error, "status_code", None)
        said = f"answered {status}" if status else f"gave no answer ({type(error).__name__})"
        raise StackUnavailableError(
            f"Llama Stack {said} when asked for its models and providers, so nobody can tell "
            "which models need a token; check llama_stack.url and api_key, and that it runs"
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
