"""Where a secret lies: a text with `{provider_id}` and `{field}` in it."""

import re
from typing import Any

from lightspeed_azure.config.values import plain_text

_PLACE = re.compile(r"\{([^{}]*)\}")


def template(value: Any) -> str:
    """Return a text whose only placeholders are `{provider_id}` and `{field}`."""
    text = value if isinstance(value, str) else ""
    if "$" in text:  # not a brace too many, but a variable
        plain_text(text)
    if set(_PLACE.findall(text)) - {"provider_id", "field"}:
        raise ValueError("may hold {provider_id} and {field}, and no other placeholder")
    if "{" in _PLACE.sub("", text) or "}" in _PLACE.sub("", text):
        raise ValueError("has a brace too many; placeholders are {provider_id} and {field}")
    return plain_text(value)


def filled(text: str, *, provider_id: str, field: str) -> str:
    """Return a template with its placeholders replaced."""
    names = {"provider_id": provider_id, "field": field}
    return _PLACE.sub(lambda match: names[match.group(1)], text)
