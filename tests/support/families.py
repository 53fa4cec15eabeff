"""Where the families of the stack differ: all that the integration tests know of it is in one table.

Llama Stack and OGX cannot share an environment, so the one that is installed here is meant.
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightspeed_azure.demo.scenario import stack_command


@dataclass(frozen=True, slots=True)
class Family:
    """What the tests of one family call things.

    Attributes:
        name: as an operator writes it.
        header: the header whose provider data the stack reads.
        version: what a server of the family answers to `/v1/version`.
        command: the configuration and the URL → the command that serves the stack there.
        log_format: the variable that names the format of its log.
        headers: the argument that gives one call headers of its own.
        client_retries: its client repeats a 503 by itself.
        with_default: a client, a header's name and its value → a client that sends it by default.
        defaults: the default headers of a client.
        stream_status: a stream of the client → its HTTP status.
        raw: a client, a method, a path and a body → what the client answers to a call by hand.
        listed: what its client answers to a listing → the entries.
        files_per_token: files that the stack keeps open, to its end, for each token it has seen.
    synchronous: the stack's own synchronous clients: of a server, and around a stack inside.
    """

    name: str
    header: str
    version: str
    command: Callable[[str, str], list[str]]
    log_format: str
    headers: str
    client_retries: bool
    with_default: Callable[[Any, str, str], Any]
    defaults: Callable[[Any], dict[str, str]]
    stream_status: Callable[[Any], int]
    raw: Callable[[Any, str, str, object], Awaitable[Any]]
    listed: Callable[[Any], list[Any]]
    files_per_token: int
    synchronous: tuple[str, str]


def _ogx_command(config: str, url: str) -> list[str]:
    program = str(Path(sys.executable).with_name("ogx"))
    return [program, "run", config, "--port", url.rpartition(":")[2], "--insecure"]


def _ogx_default(client: Any, name: str, value: str) -> Any:
    copied = client.showing({})
    copied.api_client.set_default_header(name, value)
    return copied


async def _llama_stack_raw(client: Any, method: str, path: str, body: object) -> Any:
    if method == "GET":
        return await client.get(path, cast_to=object)
    return await client.post(path, body=body, cast_to=object)


async def _ogx_raw(client: Any, method: str, path: str, body: object) -> Any:
    api = client.api_client
    return await api.call_api(*api.param_serialize(method, path, body=body))


LLAMA_STACK = Family(
    name="llama-stack",
    header="X-LlamaStack-Provider-Data",
    version="0.7.3",
    command=stack_command,
    log_format="LLAMA_STACK_LOG_FORMAT",
    headers="extra_headers",
    client_retries=True,
    with_default=lambda client, name, value: client.copy(default_headers={name: value}),
    defaults=lambda client: dict(client.default_headers),
    stream_status=lambda stream: int(stream.response.status_code),
    raw=_llama_stack_raw,
    listed=list,
    files_per_token=0,
    synchronous=(
        "llama_stack_client.LlamaStackClient",
        "llama_stack.core.library_client.LlamaStackAsLibraryClient",
    ),
)
OGX = Family(
    name="ogx",
    header="X-OGX-Provider-Data",
    version="1.5.0",
    command=_ogx_command,
    log_format="OGX_LOG_FORMAT",
    headers="_headers",
    client_retries=False,
    with_default=_ogx_default,
    defaults=lambda client: dict(client.api_client.default_headers),
    stream_status=lambda stream: int(stream.status_code),
    raw=_ogx_raw,
    listed=list,
    files_per_token=30,
    synchronous=("ogx_client.OgxClient", "ogx.core.library_client.OGXAsLibraryClient"),
)
OGX_STAINLESS = dataclasses.replace(
    LLAMA_STACK,
    name=OGX.name,
    header=OGX.header,
    version="1.0.4",
    command=lambda config, url: [
        each for each in _ogx_command(config, url) if each != "--insecure"
    ],
    log_format=OGX.log_format,
    listed=lambda answer: list(answer.data),
    files_per_token=OGX.files_per_token,
    synchronous=OGX.synchronous,
)
"""OGX 1.0: its client is still made as Llama Stack's was, and its server speaks plain HTTP."""


def _installed() -> Family:
    if not importlib.util.find_spec("ogx_client"):
        return LLAMA_STACK
    return OGX_STAINLESS if version("ogx_client").startswith("1.0.") else OGX


FAMILY = _installed()
