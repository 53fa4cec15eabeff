"""The claims of a token, read without verification: that is up to the token's receiver.

Claims: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

ROLE = "Cognitive Services OpenAI User"
"""Azure's role for inference; https://learn.microsoft.com/azure/ai-foundry/openai/how-to/role-based-access-control."""

_SHOWN = ("aud", "iss", "tid", "appid", "azp", "oid", "idtyp", "roles", "ver", "xms_mirid")

_AUDIENCES = {
    ".azure.com": "https://cognitiveservices.azure.com",
    ".azure.us": "https://cognitiveservices.azure.us",
    ".azure.cn": "https://cognitiveservices.azure.cn",
}


def claims_of(token: SecretStr) -> Mapping[str, Any] | None:
    """Return the claims of a JWT (RFC 7519); None for a token of another kind."""
    parts = token.get_secret_value().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    return claims if isinstance(claims, dict) else None


def shown(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims to show; none of them is a secret."""
    return {name: claims[name] for name in _SHOWN if name in claims}


def has_role(claims: Mapping[str, Any]) -> bool:
    """Return whether a token names the role, regardless of case and punctuation."""
    roles = claims.get("roles")
    found = roles if isinstance(roles, list) else []
    return any(_letters(str(role)) == _letters(ROLE) for role in found)


def _letters(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign.isalnum())


def audience_for(endpoint: str) -> str | None:
    """Return the audience that an Azure endpoint requires; None for another host."""
    host = urlsplit(endpoint).hostname or ""
    return next((aud for suffix, aud in _AUDIENCES.items() if host.endswith(suffix)), None)
