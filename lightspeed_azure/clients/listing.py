"""Ask a stack what it serves; both families give the same answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from lightspeed_azure.clients.generations import check_family
from lightspeed_azure.clients.stack_catalog import Listing, Provider
from lightspeed_azure.errors import LightspeedAzureError, StackUnavailableError
from lightspeed_azure.network_failure import network_failure

type Get = Callable[[str], Awaitable[Any]]
"""Requests a path of the stack and returns the JSON of the response."""


async def ask(get: Get, family: str | None = None) -> Listing:
    """Ask without a token: with one the stack would ask Azure too.

    Args:
        get: requests a path, and raises unless the status is 200.
        family: the family of the client, which the stack must have too; None: any.

    Raises:
        StackUnavailableError: it gives no answer, or an error.
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
        status, failure = _status(error), network_failure(error)
        reason = type(error).__name__ if failure is None else failure.words
        said = f"answered {status}" if status else f"gave no answer ({reason})"
    # Raised here: the client's error has the request, and with it what authenticates the caller.
    raise StackUnavailableError(
        f"The stack {said} when asked for its models and providers, so it is unknown which "
        "models need a token; check llama_stack.url and api_key, and that it runs"
    )


async def _version(get: Get) -> Any:
    """Return the stack's answer to `/v1/version`; None where it does not say."""
    try:
        return await get("/v1/version")
    except Exception as error:  # noqa: BLE001 - each client's errors are its own
        if _status(error) != 426:  # only a client of another version gets it, on any path
            return None
    raise StackUnavailableError(
        "The stack answered 426: its version and that of its client must agree in the first "
        "two numbers; install the client of the stack's version"
    )


def _status(error: Exception) -> int | None:
    """Return the HTTP status of a client's error, None without one."""
    return getattr(error, "status_code", None) or getattr(error, "status", None)


def _entries(answer: Any) -> Iterator[Mapping[str, Any]]:
    yield from answer["data"]
