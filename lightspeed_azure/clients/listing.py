"""Ask a stack what it serves; both families answer alike."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from lightspeed_azure.clients.generations import check_family
from lightspeed_azure.clients.stack_catalog import Listing, Provider
from lightspeed_azure.errors import LightspeedAzureError, StackUnavailableError

type Get = Callable[[str], Awaitable[Any]]
"""Asks the stack for a path, and returns the JSON that it answers."""


async def ask(get: Get, family: str | None = None) -> Listing:
    """Ask without a token: with one the stack would ask Azure in turn.

    Args:
        get: asks for a path, and raises where the answer is not 200.
        family: that of the client, which the stack must be of; None: of any.

    Raises:
        StackUnavailableError: it does not answer, or with an error.
        InvalidConfigurationError: the stack is of the other family.
    """
    try:
        if family is not None:
            check_family(family, await _version(get))
        models, providers = await asyncio.gather(get("/v1/models"), get("/v1/providers"))
        return Listing(
            models={
                model["id"]: str(model["custom_metadata"]["provider_id"])
                for model in _entries(models)
                if (model.get("custom_metadata") or {}).get("provider_id")
            },
            providers={
                entry["provider_id"]: Provider(
                    entry["provider_id"],
                    entry["provider_type"],
                    (entry.get("config") or {}).get("base_url") or None,
                )
                for entry in _entries(providers)
            },
        )
    except LightspeedAzureError:
        raise
    except Exception as error:  # noqa: BLE001 - each client's errors are its own
        status = getattr(error, "status_code", None) or getattr(error, "status", None)
        said = f"answered {status}" if status else f"gave no answer ({type(error).__name__})"
        raise StackUnavailableError(
            f"The stack {said} when asked for its models and providers, so nobody can tell "
            "which models need a token; check llama_stack.url and api_key, and that it runs"
        ) from None


async def _version(get: Get) -> Any:
    """Return the stack's answer to `/v1/version`; None where it does not say."""
    try:
        return await get("/v1/version")
    except Exception as error:  # noqa: BLE001 - each client's errors are its own
        status = getattr(error, "status_code", None) or getattr(error, "status", None)
        if status == 426:  # the one error that only an unfit client gets, on whichever path
            raise StackUnavailableError(
                "The stack answered 426: its version and that of its client must agree in the first "
                "two numbers; install the client of the stack's version"
            ) from None
        return None


def _entries(answer: Any) -> Iterator[Mapping[str, Any]]:
    yield from answer["data"]
