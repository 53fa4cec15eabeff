"""A custom credential, which the configuration names as `package.module:factory`."""

import importlib
import re
from typing import Any

from lightspeed_azure.concurrency.fork import importing, interrupted_imports, is_importing
from lightspeed_azure.config.values import plain_text
from lightspeed_azure.errors import InvalidConfigurationError

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def factory_name(value: Any) -> str:
    """Return `package.module:factory`; for pydantic's `BeforeValidator`."""
    text = plain_text(value)
    if not _FACTORY.fullmatch(text):
        raise ValueError('must name a function; write it as "package.module:factory"')
    return text


def make_custom(name: str) -> Any:
    """Import the module and call the factory without arguments; may block.

    Returns:
        an azure-core `TokenCredential`.

    Raises:
        InvalidConfigurationError: there is no such factory, it fails, or it returns something else.
    """
    failure = ""
    made: Any = None
    try:
        made = _factory(name)()
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


def hang_of_custom(name: str, *, is_built: bool) -> tuple[str, str]:
    """Return what has not returned, and what to do about it.

    Args:
        name: `package.module:factory`.
        is_built: whether the factory has returned.
    """
    module, _, _ = name.partition(":")
    if module in interrupted_imports():
        what = f"this process was forked while {module} was being imported"
        return what, "Restart it; fork later, or import the module before the fork"
    if is_importing(module):
        return f"the import of {module} has not returned", f'Run: python -c "import {module}"'
    what = f"get_token() of the credential {name}" if is_built else f"{name}()"
    return (
        f"{what} has not returned",
        "Call the custom credential alone; give each of its requests a timeout",
    )


def _factory(name: str) -> Any:
    module, _, attribute = name.partition(":")
    with importing(module):
        made: Any = importlib.import_module(module)
    for part in attribute.split("."):
        made = getattr(made, part)
    return made
