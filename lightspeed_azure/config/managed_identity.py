"""Which managed identity: the system's, or one that was assigned by hand."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from lightspeed_azure.config.block import unknown_key

_KEYS = ("client_id", "object_id", "resource_id")


class ManagedIdentity(BaseModel):
    """A managed identity; without any key, the one that Azure gave to the machine itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None

    def __str__(self) -> str:
        for key in _KEYS:
            if getattr(self, key):
                return f"{key} {getattr(self, key)}"
        return "system"


def which_identity(value: Any) -> Any:
    """Return what `managed_identity:` says, or raise ValueError with the cure.

    Args:
        value: `system`, a map with one of client_id, object_id and resource_id, or a model.
    """
    if isinstance(value, ManagedIdentity):
        return value
    if isinstance(value, str) and value.strip().lower() == "system":
        return ManagedIdentity()
    if not isinstance(value, Mapping):
        text = "must be system, or a map with client_id, object_id or resource_id"
        raise ValueError(text)  # noqa: TRY004 - pydantic collects ValueError
    for key in value:
        if key not in _KEYS:
            raise ValueError(unknown_key(key, _KEYS))
    given = {
        key: item.get_secret_value() if isinstance(item, SecretStr) else item
        for key, item in value.items()
        if item is not None
    }
    if len(given) != 1:
        raise ValueError("needs exactly one of client_id, object_id and resource_id")
    (key, item), *_ = given.items()
    if not isinstance(item, str) or not item.strip():
        raise ValueError(f"{key} must be text that is not empty; put the value in quotes")
    return ManagedIdentity(**{key: item.strip()})
