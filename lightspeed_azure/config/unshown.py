"""What holds secrets while it is read: a traceback with locals shows it without its values."""

from collections.abc import Mapping
from typing import Any


class Unshown(dict[str, Any]):
    """A mapping whose repr shows its keys alone.

    Tools that print a traceback may print the local variables of every frame too, and a mapping
    that somebody configures us with can hold secrets as plain text.
    """

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{key}: …' for key in self)}}}"


def unshown(value: Any) -> Any:
    """Return a configuration so that its repr holds no value; anything but mappings as it is."""
    if isinstance(value, Mapping):
        return Unshown({str(key): item for key, item in value.items()})
    if isinstance(value, list | tuple):
        return [unshown(item) for item in value]
    return value
