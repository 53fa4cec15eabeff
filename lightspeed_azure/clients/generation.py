"""The generations of the stack, and where they differ: one table.

Llama Stack goes on as OGX from 1.0. The client of a generation comes in one of two makes: made by
Stainless (llama-stack-client 0.7, ogx-client 1.0.2), or by OpenAPI Generator (ogx-client 1.2.5 and
1.5.0). Our file for a make offers
`connect(generation, config, url, make_calls)` and `async start(generation, run_config, make_calls)`;
what these return has `carried`, `carrying(data, shown)` and `shutdown()` besides all that the stack's own
client has.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lightspeed_azure.provider_data import LLAMA_STACK_HEADER, OGX_HEADER


@dataclass(frozen=True, slots=True)
class Generation:
    """What one generation of the stack calls things.

    Attributes:
        family: the name that an operator writes.
        title: the name for people.
        header: the one header whose provider data it reads.
        version_header: a client of another version is refused with 426 when it sends this.
        client: the package of its client (service mode).
        client_class: the client in it.
        stack: the package of the stack itself (library mode).
        library: the module of the client that has the stack inside.
        library_class: that client.
        extra: our optional part that brings it.
        run: the command that serves it.
        log_variable: "json" in it keeps a refusal from stopping the server for seconds.
        key_per_provider: it reads `{provider_id}_api_key` for each provider of a request.
    """

    family: str
    title: str
    header: str
    version_header: str
    client: str
    client_class: str
    stack: str
    library: str
    library_class: str
    extra: str
    run: str
    log_variable: str
    key_per_provider: bool

    @property
    def distribution(self) -> str:
        """What pip calls the client."""
        return self.client.replace("_", "-")

    @property
    def clients(self) -> str:
        """Our file that knows the clients of the make that is installed."""
        stainless = self.family == LLAMA_STACK.family or is_stainless(self.client)
        return f"lightspeed_azure.clients.{'stainless' if stainless else 'ogx'}_clients"


LLAMA_STACK = Generation(
    family="llama-stack",
    title="Llama Stack",
    header=LLAMA_STACK_HEADER,
    version_header="X-LlamaStack-Client-Version",
    client="llama_stack_client",
    client_class="AsyncLlamaStackClient",
    stack="llama_stack",
    library="llama_stack.core.library_client",
    library_class="AsyncLlamaStackAsLibraryClient",
    extra="llama-stack",
    run="llama stack run",
    log_variable="LLAMA_STACK_LOG_FORMAT",
    key_per_provider=False,
)
OGX = Generation(
    family="ogx",
    title="OGX",
    header=OGX_HEADER,
    version_header="X-OGX-Client-Version",
    client="ogx_client",
    client_class="AsyncOgxClient",
    stack="ogx",
    library="ogx.core.library_client",
    library_class="AsyncOGXAsLibraryClient",
    extra="ogx",
    run="ogx run",
    log_variable="OGX_LOG_FORMAT",
    key_per_provider=True,
)
GENERATIONS = (OGX, LLAMA_STACK)
"""The newest first: llama-stack-client is always installed, the others are somebody's choice."""


def is_stainless(client: str) -> bool:
    """Return whether a client that is installed is of Stainless' make; looks, and imports nothing."""
    spec = importlib.util.find_spec(client)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return any((Path(folder) / "_base_client.py").is_file() for folder in folders)
