"""The types of values: each function returns a clean value or raises ValueError.

No message repeats the value: it could be a secret in the wrong place.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema

from lightspeed_azure.enrichment.references import unsubstituted

_QUOTES = "put the value in quotes"


class Unit(str):
    """The unit of a number, for messages; an annotation of a field."""

    __slots__ = ()


def parts_of(annotation: object) -> Iterator[object]:
    """Yield the types in a union, and their annotations."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from parts_of(part)
    else:
        yield annotation


SECONDS = Unit("seconds")

Seconds = Annotated[float, Field(gt=0, le=3600, strict=True, allow_inf_nan=False), SECONDS]
"""A time limit: more than 0, at most an hour."""


class Identifier(str):
    """An identifier that is no secret, but can be read like one.

    lightspeed-stack keeps tenant and client ids as `SecretStr`; code written for it keeps working.
    """

    __slots__ = ()

    def get_secret_value(self) -> str:
        """Return the identifier."""
        return str(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as text; `identifier` checks the rest."""
        del source, handler
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
        )


def plain_text(value: Any) -> str:
    """Return a text without surrounding white space; not empty, and not a template to fill in."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        raise ValueError(f"must be text; {_QUOTES}")  # noqa: TRY004 - pydantic collects ValueError
    text = text.strip()
    if not text:
        raise ValueError("is empty; give a value, or remove the key")
    if not text.isprintable():
        raise ValueError("contains a line break or a control character; remove it")
    if problem := unsubstituted(text):
        raise ValueError(problem)
    return text


def name(value: Any) -> str:
    """Return a name, such as a provider's; refuse text that is more likely to be a secret."""
    text = plain_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,127}", text):
        raise ValueError("must be a name: at most 128 letters, digits and _ . : / @ -")
    return text


def variable_name(value: Any) -> str:
    """Return the name of an environment variable."""
    text = plain_text(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text):
        raise ValueError(
            "must be the name of an environment variable, such as VLLM_API_KEY, and not its value"
        )
    return text


def shown_variable(text: str) -> str:
    """Return a variable's name for a message, or "" if it may be a secret in the wrong place."""
    return text if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text) else ""


def identifier(value: Any) -> Identifier:
    """Return a tenant or application id: letters, digits, hyphens, dots and underscores."""
    text = plain_text(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise ValueError(
            "must be an id such as 00000000-0000-0000-0000-000000000000; copy it from the "
            "overview page of the application in Azure"
        )
    return Identifier(text)


def secret_text(value: Any) -> SecretStr:
    """Return a secret without surrounding white space; it must not be empty."""
    return SecretStr(plain_text(value))


def boolean(value: Any) -> Any:
    """Return the texts `true` and `false`, as a substitution yields them, as booleans."""
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value


def file_path(value: Any) -> Path:
    """Return a path with `~` expanded; does not check whether the file exists."""
    if isinstance(value, Path):
        return value.expanduser()
    return Path(plain_text(value)).expanduser()


def scope_name(value: Any) -> str:
    """Return one scope."""
    text = plain_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.:/-]+", text):
        raise ValueError(
            "must be one scope, such as https://cognitiveservices.azure.com/.default, without spaces"
        )
    if not text.endswith("/.default"):
        raise ValueError("must end in /.default, as every scope of an application does; append it")
    return text


def https_url(value: Any) -> str:
    """Return an https URL without a trailing slash, user name, query or fragment."""
    text = http_url(value)
    if not text.startswith("https://"):
        raise ValueError("must be an https URL, such as https://login.microsoftonline.com")
    return text


def authority_url(value: Any) -> str:
    """Return an https URL without a path."""
    text = https_url(value)
    if urlsplit(text).path:
        raise ValueError("must name the host alone; the tenant belongs in tenant_id")
    return text


def http_url(value: Any) -> str:
    """Return an http or https URL without a trailing slash, user name, query or fragment."""
    text = plain_text(value)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL; write it as https://host:port") from None
    if parts.scheme not in ("http", "https") or not host or " " in text:
        raise ValueError("is not a URL; write it as https://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password; remove them")
    if parts.query or parts.fragment:
        raise ValueError("must end after the path; remove the query and the fragment")
    return text.rstrip("/")
