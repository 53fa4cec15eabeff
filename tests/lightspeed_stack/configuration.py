"""Stands in for a module that the wheel of lightspeed-stack 0.7.1 lacks: what its code needs of it.

The configuration in it is the wheel's own model.
"""

from typing import Any

from models.config import (  # type: ignore[import-not-found]  # in another environment
    AuthorizationConfiguration,
    AzureEntraIdConfiguration,
    Configuration,
)

__all__ = ["AppConfig", "AzureEntraIdConfiguration", "LogicError", "configuration"]


class LogicError(Exception):
    """Nothing is loaded."""


class AppConfig:
    """The configuration of the process."""

    def __init__(self) -> None:
        self.loaded: Any = None
        self.quota_limiters: list[Any] = []
        self.token_usage_history = None

    def init_from_dict(self, values: dict[str, Any]) -> None:
        """Take a configuration over."""
        self.loaded = Configuration(**values)

    @property
    def configuration(self) -> Any:
        """The whole of it."""
        if self.loaded is None:
            raise LogicError("nothing is loaded")
        return self.loaded

    @property
    def authentication_configuration(self) -> Any:
        """How callers are told apart."""
        return self.configuration.authentication

    @property
    def authorization_configuration(self) -> Any:
        """What callers may do."""
        return self.configuration.authorization or AuthorizationConfiguration()

    @property
    def reranker(self) -> Any:
        """How what was found is sorted."""
        return self.configuration.rag.retrieval.inline.reranker

    @property
    def okp(self) -> Any:
        """Where documents are looked up."""
        return self.configuration.rag.okp

    @property
    def inline_solr_enabled(self) -> bool:
        """Whether questions are looked up first."""
        return False

    def __getattr__(self, name: str) -> Any:
        """Return a block of it."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name.endswith("_mapping"):  # of stores: there is none
            return {}
        return getattr(self.configuration, name.removesuffix("_configuration"))


configuration = AppConfig()
