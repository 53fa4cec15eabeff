"""Which generation of the stack is in use, and the way to its clients."""

import asyncio
import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import httpx

from lightspeed_azure.clients.generation import GENERATIONS, LLAMA_STACK, OGX, Generation
from lightspeed_azure.clients.inference_call import MakeCalls
from lightspeed_azure.clients.pinned_transport import pinned_transport
from lightspeed_azure.concurrency.fork import importing
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import InvalidConfigurationError

__all__ = [
    "GENERATIONS",
    "LLAMA_STACK",
    "OGX",
    "Generation",
    "connect",
    "in_use",
    "of_version",
    "prepare",
    "start",
]

_logger = logging.getLogger(__name__)

VERSION_LIMIT = 5.0
"""Seconds that a stack may take to say its version."""


async def in_use(config: LlamaStackConfiguration) -> Generation:
    """Return the generation that a configuration means.

    What the configuration says counts, then what is installed: the stack itself in library mode,
    its client in service mode. Where both clients are, the stack is asked for its version; while it
    does not answer, the newer client is taken.

    Raises:
        InvalidConfigurationError: it is not installed.
    """
    usable = installed(config)
    if len(usable) == 1 or config.use_as_library_client or config.url is None:
        return usable[0]
    return await _of_server(config.url, config.ca_bundle) or usable[0]


def installed(config: LlamaStackConfiguration) -> list[Generation]:
    """Return the generations that a configuration may mean and that are installed, newest first.

    Raises:
        InvalidConfigurationError: there is none.
    """
    library = config.use_as_library_client
    wanted = [each for each in GENERATIONS if config.family in (None, each.family)]
    found = [each for each in wanted if _is_installed(each.stack if library else each.client)]
    if not found:
        raise InvalidConfigurationError(_missing(wanted, library=library))
    return found


def prepare(generation: Generation) -> None:
    """Import a generation's client, which takes over a second; to be done on another thread."""
    with importing(generation.client):
        importlib.import_module(generation.client)
        importlib.import_module(generation.clients)


def connect(generation: Generation, config: LlamaStackConfiguration, make_calls: MakeCalls) -> Any:
    """Return the client of a server; sends nothing.

    Raises:
        InvalidConfigurationError: the configuration names no URL.
    """
    if not config.url:
        raise InvalidConfigurationError(
            "url: is missing; write https://host:port into the ogx or llama_stack block"
        )
    clients = importlib.import_module(generation.clients)
    return clients.connect(generation, config, config.url, make_calls)


async def start(generation: Generation, run_config: Path, make_calls: MakeCalls) -> Any:
    """Return a client with a whole stack inside, started from its configuration file.

    Raises:
        Exception: whatever keeps the stack from starting.
    """
    clients = importlib.import_module(generation.clients)
    return await clients.start(generation, run_config, make_calls)


async def _of_server(url: str, ca_bundle: Path | None) -> Generation | None:
    """Return the generation of the server at a URL; None while it does not say."""
    transport = pinned_transport(httpx.URL(url), ca_bundle)
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
        try:
            async with asyncio.timeout(VERSION_LIMIT):
                answer = await client.get(f"{url.rstrip('/')}/v1/version")
            return of_version(answer.json())
        except (httpx.HTTPError, TimeoutError, ValueError, LookupError, TypeError) as error:
            _logger.warning(
                "The stack at %s did not say its version (%s); it is taken for %s, unless "
                "family in the ogx or llama_stack block says otherwise",
                httpx.URL(url).host,
                type(error).__name__,
                GENERATIONS[0].family,
            )
            return None


def of_version(answer: Any) -> Generation:
    """Return the generation of a server by its answer to `/v1/version`.

    Raises:
        ValueError, LookupError, TypeError: it says no version.
    """
    major = int(str(answer["version"]).lstrip("v").partition(".")[0])
    return OGX if major >= 1 else LLAMA_STACK


def check_family(family: str, answer: Any) -> None:
    """Refuse a server of the other family, which would not read the header that its client sends.

    Args:
        family: that of the client in use.
        answer: the server's answer to `/v1/version`; one that says nothing is let through.

    Raises:
        InvalidConfigurationError: it is of the other family.
    """
    try:
        found = of_version(answer)
    except (ValueError, LookupError, TypeError):
        return
    if found.family != family:
        raise InvalidConfigurationError(
            f"The server is {found.family} {answer['version']}, and would not read what the client of "
            f"{family} sends; pip install 'lightspeed-azure[{found.extra}]'"
            f", or set family: {found.family} in the ogx or llama_stack block where {found.client} "
            "is installed"
        )


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # and not just a folder of that name


def _missing(wanted: list[Generation], *, library: bool) -> str:
    packages = " or ".join(each.stack if library else each.client for each in wanted)
    cures = [f"pip install 'lightspeed-azure[{each.extra}]'" for each in wanted]
    if library:
        cures.append("set url and use_as_library_client: false")
    return (
        f"{'Library' if library else 'Service'} mode needs {packages}, which is not installed; "
        f"{', or '.join(cures)}"
    )
