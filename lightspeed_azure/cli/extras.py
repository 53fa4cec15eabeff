"""Parts of the command that need an extra to be installed."""

from importlib import import_module
from typing import Any

from lightspeed_azure.errors import InvalidConfigurationError


def import_extra(extra: str, module: str) -> Any:
    """Return a module of this package that needs an extra.

    Raises:
        InvalidConfigurationError: a package that it needs is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InvalidConfigurationError(
            f"this needs {error.name}, which is not installed; "
            f"pip install 'lightspeed-azure[{extra}]'"
        ) from None
