"""Provider data: what a request tells the stack about one provider, as JSON in one header.

The only file that spells a header name. Llama Stack reads only `X-LlamaStack-Provider-Data`, OGX
only `X-OGX-Provider-Data` (llama_stack/core/request_headers.py 0.7, ogx/core/request_headers.py
1.x). `remote::azure` needs both fields, or the stack drops *all* provider data.
"""

import json
import logging
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.errors import ProviderDataError
from lightspeed_azure.secrets import RedactedDict, RedactedStr

LLAMA_STACK_HEADER = "X-LlamaStack-Provider-Data"
OGX_HEADER = "X-OGX-Provider-Data"
PROVIDER_DATA_HEADERS = (LLAMA_STACK_HEADER, OGX_HEADER)

_NAMES = frozenset(name.lower() for name in PROVIDER_DATA_HEADERS)
_logger = logging.getLogger(__name__)


def azure_provider_data(token: SecretStr, base_url: str) -> dict[str, str]:
    """Return the fields that `remote::azure` reads; where a token becomes text.

    Args:
        token: the current Entra ID token.
        base_url: the provider's `base_url`; must be a URL, but is not used for routing.
    """
    return RedactedDict({"azure_api_key": token.get_secret_value(), "azure_api_base": base_url})


def provider_keys(tokens: Mapping[str, SecretStr]) -> dict[str, str]:
    """Return one field for each provider, as OGX reads it (ogx/core/routers/inference.py 1.5).

    It takes the first field that is `{provider_id}_api_key` in any letter case, unless that is
    `azure_api_key` itself, which stands for all; so these are spelled unlike it, and come first.

    Args:
        tokens: provider_id → token.
    """
    return {f"{name}_API_KEY": token.get_secret_value() for name, token in tokens.items()}


def encode(data: Mapping[str, Any]) -> RedactedStr:
    """Return the header's value: JSON in ASCII, so that no value can break out of the header."""
    return RedactedStr(json.dumps(data))


def parse_defaults(values: Iterable[str]) -> dict[str, Any]:
    """Return what a client sends by default; what is not a JSON object counts as none, with a warning."""
    merged = RedactedDict()
    for value in values:
        try:
            merged.update(parse(value))
        except ProviderDataError:
            _logger.warning("Default provider data is not a JSON object; it is not sent")
    return merged


def defaults(data: object) -> dict[str, Any]:
    """Return what somebody made a client's default provider data; no mapping counts as none."""
    if data and not isinstance(data, Mapping):
        _logger.warning("Default provider data is not a JSON object; it is not sent")
    return RedactedDict(data) if isinstance(data, Mapping) else RedactedDict()


def parse(value: str) -> dict[str, Any]:
    """Return the object that a header value holds.

    Raises:
        ProviderDataError: it is not a JSON object; the text never shows the value.
    """
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ProviderDataError(
            "The provider data given for this request is not a JSON object; "
            'send {"field": "value", …}'
        )
    return RedactedDict(data)


def is_provider_data(name: str) -> bool:
    """Return whether a header of this name, in any letter case, carries provider data."""
    return name.lower() in _NAMES


def split(headers: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the headers without provider data, and the provider data's values in their order."""
    rest: dict[str, Any] = {}
    values: list[str] = []
    for name, value in headers.items():
        if not is_provider_data(name):
            rest[name] = value
        elif isinstance(value, str | bytes):
            text = value if isinstance(value, str) else value.decode("latin-1")
            values.append(RedactedStr(text))
        elif isinstance(value, Mapping | list):
            values.append("not a text")  # `parse` tells the caller
    return rest, values


def strip(headers: MutableMapping[str, str]) -> None:
    """Remove provider data, however it is spelled."""
    for name in [name for name in headers if is_provider_data(name)]:
        del headers[name]


def without(data: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return the data without some fields, in any letter case."""
    if not data:  # as it most often is
        return RedactedDict()
    gone = {field.lower() for field in fields}
    return {field: value for field, value in data.items() if field.lower() not in gone}


def apart_from(data: Mapping[str, Any], shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data without the Azure fields if these hold the token that is only shown."""
    if not shown or data.get("azure_api_key") != shown.get("azure_api_key"):
        return data
    return without(data, shown)


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one object; where two parts name one field, the later part wins."""
    merged = RedactedDict()
    for part in parts:
        merged.update(part)
    return merged
