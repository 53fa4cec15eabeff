"""Somebody else's credential, named in the configuration as `package.module:factory`."""

import importlib
from typing import Any

from lightspeed_azure.errors import InvalidConfigurationError


def foreign_credential(name: str) -> Any:
    """Import and call a factory of any azure-core `TokenCredential`.

    Args:
        name: `package.module:factory`; the factory is called without arguments.

    Raises:
        InvalidConfigurationError: there is no such factory, it fails, or makes something else.
    """
    module, _, attribute = name.partition(":")
    failure = ""
    made: Any = None
    try:
        made = importlib.import_module(module)
        for part in attribute.split("."):
            made = getattr(made, part)
        made = made()
    except ModuleNotFoundError as error:
        failure = f"there is no module {error.name}; install its package, or correct the name"
    except AttributeError as error:
        failure = f"has no {error.name}; correct the name"
    except Exception as error:  # noqa: BLE001 - a factory raises anything
        failure = f"fails with {type(error).__name__}; try the factory alone"
    if not failure and not callable(getattr(made, "get_token", None)):
        failure = "makes no TokenCredential: the result has no get_token"
    if failure:
        raise InvalidConfigurationError(f"credential: {name} {failure}")
    return made
