"""Start a stack inside the process: from an enriched copy of its configuration, within a limit."""

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.enrichment import enrich_text, identities_of, log_outcome, write_atomically
from lightspeed_azure.enrichment.synthesis import stack_configuration
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    LightspeedAzureError,
    StackUnavailableError,
    shown_path,
)

START_LIMIT = 300.0
"""Seconds that a stack inside the process may take to start (an unrelated provider may hang)."""


async def start_enriched(
    config: LlamaStackConfiguration,
    azure_entra_id: Any,
    start: Callable[[Path], Awaitable[Any]],
    *,
    limit: float,
    by_hand: str,
) -> Any:
    """Return the client that `start` makes of the enriched copy; the copy is gone afterwards.

    Args:
        config: names the stack's configuration file.
        azure_entra_id: the identities' configurations; None when Entra ID is not configured.
        start: starts a stack from a file.
        limit: seconds that it may take.
        by_hand: the command that starts such a stack.

    Raises:
        InvalidConfigurationError: the file is not named, or cannot be read.
        StackUnavailableError: the stack did not start, or not in time.
    """
    path = config.library_client_config_path
    if path is not None and not shown_path(path):
        raise InvalidConfigurationError(
            "library_client_config_path: there is no such file; name the stack's run.yaml"
        )
    found = stack_configuration(config)
    if found is None:
        raise InvalidConfigurationError(
            "library_client_config_path: is missing; name the stack's run.yaml"
        )
    text, name = found
    with tempfile.TemporaryDirectory(prefix="lightspeed-azure-") as folder:
        run_yaml = Path(folder) / "run.yaml"
        outcome = enrich_text(text, name, identities_of(azure_entra_id), expand_aliases=True)
        write_atomically(run_yaml, outcome.after)
        log_outcome(outcome)
        try:
            async with asyncio.timeout(limit):
                return await start(run_yaml)
        except LightspeedAzureError:
            raise
        except TimeoutError:
            raise StackUnavailableError(
                f"Llama Stack did not start within {limit:.0f} s; one of its providers may be "
                "waiting for a service that is down"
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever keeps a stack from starting
            raise StackUnavailableError(
                f"Llama Stack did not start from {name}: {_reason(error, by_hand)}"
            ) from None


async def initialize(client: Any) -> None:
    """Start the stack that is inside a client, or shut down what of it has started."""
    try:
        await client.initialize()
    except BaseException:
        with contextlib.suppress(Exception):
            await client.shutdown()  # half of a stack may be up, and holds threads and files
        raise


async def create_tables(client: Any) -> None:
    """Have the stack inside a client create its database tables, before requests arrive.

    The stack creates them when it first reads or writes an answer. Several first answers at once race
    for that: on a fresh database all but one are not stored ("no such table: inference_store").
    """
    with contextlib.suppress(Exception):  # a stack without such a store answers all the same
        await client.chat.completions.list(limit=1)


def _reason(error: Exception, by_hand: str) -> str:
    """Return why; only these errors say it without a value of the configuration."""
    name = type(error).__name__
    if name == "EnvVarError" or isinstance(error, ImportError):
        return f"{name}: {error}"
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        found = (f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in problems)
        return f"the configuration is not valid: {', '.join(found)}"
    return f"{name}; `{by_hand}` with the same file says more"
