"""The `llama_stack:` block: where Llama Stack is, and how to reach it."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.problems import Problem, closest
from lightspeed_azure.config.values import (
    Seconds,
    boolean,
    file_path,
    http_url,
    plain_text,
    secret_text,
)


def _lower_case(value: Any) -> str:
    return plain_text(value).lower()


class LlamaStackConfiguration(Block):
    """Where Llama Stack is: inside this process (library mode), or a service at a URL.

    Both may be named: `use_as_library_client` alone says which is meant.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    use_as_library_client: Annotated[StrictBool, BeforeValidator(boolean)] = False
    library_client_config_path: Annotated[Path | None, BeforeValidator(file_path)] = None
    url: Annotated[str | None, BeforeValidator(http_url)] = None
    api_key: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    timeout: Seconds = 180.0
    allow_insecure: Annotated[StrictBool, BeforeValidator(boolean)] = False
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    family: Annotated[Literal["llama-stack", "ogx"] | None, BeforeValidator(_lower_case)] = None

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        problems: list[Problem] = []
        misspelt = {
            closest(name, cls.model_fields) for name in given.keys() - cls.model_fields.keys()
        }
        library = boolean(given.get("use_as_library_client", False))
        if library is True:
            if "library_client_config_path" not in given:
                text = "is missing; name Llama Stack's own configuration file"
                problems.append(Problem(("library_client_config_path",), text))
        elif library is False:
            if "url" not in given and not misspelt & {"url", "use_as_library_client"}:
                text = "is missing; add it, or set use_as_library_client: true"
                problems.append(Problem(("url",), text))
            elif boolean(given.get("allow_insecure", False)) is False:
                problems += _check_transport(given.get("url"))
        return problems


def _check_transport(url: object) -> list[Problem]:
    """Refuse to send tokens over a network in the clear."""
    if not isinstance(url, str) or not url.strip().lower().startswith("http://"):
        return []
    try:
        host = urlsplit(url.strip()).hostname or ""
    except ValueError:
        return []  # said elsewhere
    if not host or is_loopback(host):
        return []
    text = (
        "would send tokens over plain HTTP to another machine; use https, "
        "or set allow_insecure: true if something else protects that way"
    )
    return [Problem(("url",), text)]


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
