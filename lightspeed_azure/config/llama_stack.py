"""The `llama_stack:` or `ogx:` block: where the stack is, and how to reach it."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, StrictBool

from lightspeed_azure.config.block import Block, attributes
from lightspeed_azure.config.problems import LocatedConfigurationError, Problem, closest
from lightspeed_azure.config.unified import UnifiedConfiguration, with_operators_file
from lightspeed_azure.config.values import (
    Seconds,
    boolean,
    file_path,
    http_url,
    plain_text,
    secret_text,
)
from lightspeed_azure.secrets import RedactedDict

ALLOW_INSECURE_VARIABLE = "LIGHTSPEED_AZURE_ALLOW_INSECURE"
"""`true` allows plain HTTP to a stack on another machine where the configuration does not say."""


def _lower_case(value: Any) -> str:
    return plain_text(value).lower()


class LlamaStackConfiguration(Block):
    """Where the stack is: inside this process (library mode), or a service at a URL.

    Both may be named: `use_as_library_client` alone says which is meant.

    Args:
        environ: the environment to ask for LIGHTSPEED_AZURE_ALLOW_INSECURE; the process's when None.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    use_as_library_client: Annotated[StrictBool, BeforeValidator(boolean)] = False
    library_client_config_path: Annotated[Path | None, BeforeValidator(file_path)] = None
    config: UnifiedConfiguration | None = None
    url: Annotated[str | None, BeforeValidator(http_url)] = None
    api_key: Annotated[SecretStr | None, BeforeValidator(secret_text)] = None
    timeout: Seconds = 180.0
    allow_insecure: Annotated[StrictBool, BeforeValidator(boolean)] = False
    ca_bundle: Annotated[Path | None, BeforeValidator(file_path)] = None
    family: Annotated[Literal["llama-stack", "ogx"] | None, BeforeValidator(_lower_case)] = None

    def __init__(self, /, *, environ: Mapping[str, str] | None = None, **data: Any) -> None:
        data = RedactedDict(data)
        problems = _read_variable(data, os.environ if environ is None else environ)
        del environ  # a traceback with local variables would show all of it
        problems += _read_unified(data)
        try:
            super().__init__(**data)
        except LocatedConfigurationError as error:
            problems += error.located
        if problems:
            raise LocatedConfigurationError(problems)

    @classmethod
    def from_object(cls, obj: object, *, allow_insecure: bool | None = None) -> Self:
        """Return the block that an object describes.

        Args:
            obj: an instance, a mapping, or any object with attributes named like our keys, such
                as lightspeed-stack's own configuration model. Its other attributes are ignored. A
                model in unified mode is completed from the file that LIGHTSPEED_STACK_CONFIG_PATH
                names.
            allow_insecure: replaces the key of that name; None leaves it.

        Raises:
            InvalidConfigurationError: it cannot work.
        """
        if isinstance(obj, cls):
            return obj
        if isinstance(obj, Mapping):
            given: Mapping[str, Any] = obj
        else:
            given = attributes(obj, cls.model_fields)
            if given.get("use_as_library_client") and not given.get("library_client_config_path"):
                given = with_operators_file(given)
        given = RedactedDict({str(name): value for name, value in given.items()})
        del obj
        if allow_insecure is not None:
            given["allow_insecure"] = allow_insecure
        return cls(**given)

    @classmethod
    def cross_check(cls, given: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with the keys taken together."""
        problems: list[Problem] = []
        misspelt = {
            closest(name, cls.model_fields) for name in given.keys() - cls.model_fields.keys()
        }
        library = boolean(given.get("use_as_library_client", False))
        if library is True:
            path, unified = "library_client_config_path", given.get("config")
            if path not in given and unified is None:
                text = (
                    "is missing; name Llama Stack's own configuration file, or, in unified mode, "
                    "config.profile"
                )
                problems.append(Problem((path,), text))
            elif path in given and unified is not None:
                text = (
                    "and unified mode (config, inference.providers) exclude each other; keep one "
                    "of them"
                )
                problems.append(Problem((path,), text))
        elif library is False:
            if "url" not in given and not misspelt & {"url", "use_as_library_client"}:
                text = "is missing; add it, or set use_as_library_client: true"
                problems.append(Problem(("url",), text))
            elif boolean(given.get("allow_insecure", False)) is False:
                problems += _check_transport(given.get("url"))
        return problems


def _read_variable(data: dict[str, Any], environ: Mapping[str, str]) -> list[Problem]:
    """Let the environment say `allow_insecure` where the configuration does not."""
    text = environ.get(ALLOW_INSECURE_VARIABLE, "").strip()
    if not text or data.get("allow_insecure") is not None:
        return []
    data["allow_insecure"] = boolean(text)
    if isinstance(data["allow_insecure"], bool):
        return []
    del data["allow_insecure"]
    return [Problem((ALLOW_INSECURE_VARIABLE,), "must be true or false")]


def _read_unified(data: dict[str, Any]) -> list[Problem]:
    """Make a block of `config`, and return its problems with their keys."""
    given = data.get("config")
    if given is None or isinstance(given, UnifiedConfiguration):
        return []
    if isinstance(given, Mapping):  # it may have keys that only lightspeed-stack knows
        known = UnifiedConfiguration.model_fields
        given = RedactedDict(
            {name: given[name] for name in given if closest(name, known, cutoff=0.8)}
        )
    elif isinstance(given, str | int | float | list):
        del data["config"]
        return [Problem(("config",), "must be a map of keys and values")]
    try:
        data["config"] = UnifiedConfiguration.from_object(given)
    except LocatedConfigurationError as error:
        data["config"] = UnifiedConfiguration()  # so that it does not count as missing
        return [Problem(("config", *each.key), each.text) for each in error.located]
    return []


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
        "would send tokens over plain HTTP to another machine; use https, or, if something else "
        "protects that way, set allow_insecure: true, pass allow_insecure=True to load() or "
        f"lifespan(), or set {ALLOW_INSECURE_VARIABLE}=true"
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
