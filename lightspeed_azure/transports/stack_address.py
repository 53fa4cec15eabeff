"""Where the stack is, as people write it for a client of the OpenAI kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import InvalidConfigurationError

type Stack = str | Mapping[str, Any] | LlamaStackConfiguration
"""The stack's URL, with or without `/v1`, or the `llama_stack` block."""


def stack_configuration(stack: Stack, **given: Any) -> LlamaStackConfiguration:
    """Return the configuration of a stack at a URL.

    Args:
        stack: where it is.
        given: `ca_bundle`, `timeout` and `family`, which count where they are not None.

    Raises:
        InvalidConfigurationError: it cannot work, or names a stack inside the process.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(stack, str):
        config = LlamaStackConfiguration.from_object({"url": stack, **given})
    else:
        config = LlamaStackConfiguration.from_object(stack)
        if given:
            LlamaStackConfiguration.from_object({"url": "http://localhost", **given})  # checks them
            given = {n: Path(v) if n == "ca_bundle" else v for n, v in given.items()}
            config = config.model_copy(update=given)
    if config.use_as_library_client or not config.url:
        raise InvalidConfigurationError(
            "url: is missing; an HTTP client needs a server, so set "
            "use_as_library_client: false and url: https://host:port"
        )
    url = config.url.rstrip("/").removesuffix("/v1")
    return config.model_copy(update={"url": url})
