"""A custom credential, named in the configuration as `package.module:factory`."""

import importlib
from collections.abc import Callable
from typing import Any

from lightspeed_azure.concurrency.fork import importing, interrupted_imports
from lightspeed_azure.errors import InvalidConfigurationError


class ForeignCredential:
    """Makes a custom credential, and knows which part of it has not returned yet.

    Args:
        name: `package.module:factory`; the factory takes no arguments and returns an azure-core
            `TokenCredential`.

    Attributes:
        step: what runs, or ran last: "import", "factory" or "get_token".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = "import"
        self._module, _, self._attribute = name.partition(":")

    def make(self) -> Any:
        """Import the module and call the factory; may block.

        Raises:
            InvalidConfigurationError: there is no such factory, it fails, or makes something else.
        """
        self.step = "import"
        failure = ""
        made: Any = None
        try:
            factory = self._factory()
            self.step = "factory"
            made = factory()
        except ModuleNotFoundError as error:
            failure = f"there is no module {error.name}; install its package, or correct the name"
        except AttributeError as error:
            failure = f"has no {error.name}; correct the name"
        except Exception as error:  # noqa: BLE001 - a factory raises anything
            failure = f"fails with {type(error).__name__}; try the factory alone"
        if not failure and not callable(getattr(made, "get_token", None)):
            failure = "makes no TokenCredential: the result has no get_token"
        if failure:
            raise InvalidConfigurationError(f"credential: {self.name} {failure}")
        self.step = "get_token"
        return made

    def hang(self) -> tuple[str, str]:
        """Return what has not returned, and what to do about it."""
        if self.step == "import" and self._module in interrupted_imports():
            what = f"this process was forked while {self._module} was being imported"
            return what, "Restart it; fork later, or import the module before the fork"
        what = {
            "import": f"the import of {self._module} has not returned",
            "factory": f"{self.name}() has not returned",
            "get_token": f"get_token() of the credential {self.name} has not returned",
        }[self.step]
        cure = "Call the custom credential alone; give each of its requests a timeout"
        if self.step == "import":
            cure = f'Run: python -c "import {self._module}"'
        return what, cure

    def _factory(self) -> Callable[[], Any]:
        with importing(self._module):
            made: Any = importlib.import_module(self._module)
        for part in self._attribute.split("."):
            made = getattr(made, part)
        factory: Callable[[], Any] = made
        return factory
