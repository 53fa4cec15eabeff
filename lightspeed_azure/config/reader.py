"""From a parsed file to our blocks, with every problem on the way."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.credential_resolver import CredentialResolverConfiguration
from lightspeed_azure.config.entra_id import KINDS, AzureEntraIdConfiguration
from lightspeed_azure.config.environment import UnsetVariableError, convert, expand
from lightspeed_azure.config.files_named import check_files
from lightspeed_azure.config.llama_stack import LlamaStackConfiguration
from lightspeed_azure.config.problems import (
    Key,
    LocatedConfigurationError,
    Problem,
    closest,
    unknown_key,
)
from lightspeed_azure.config.proxy import TYPED as PROXY_TYPED
from lightspeed_azure.config.proxy import ProxyConfiguration

_BLOCKS = ("azure_entra_id", "llama_stack", "credential_resolvers", "proxy")

_TYPED = frozenset(
    [
        "allow_insecure",
        "allow_unauthenticated",
        "azure_cli",
        "deadline",
        "default",
        "enabled",
        "failures",
        "key_cooldown",
        "key_refresh",
        "leeway",
        "order",
        "prefetch",
        "rest",
        "send_certificate_chain",
        "stale_if_error",
        "timeout",
        "ttl",
        "use_as_library_client",
        "verify_challenge_resource",
        *PROXY_TYPED,
    ]
)
"""Keys whose substituted text becomes a boolean or a number; a secret of digits stays a text."""


class Reader:
    """Reads our blocks, and collects what is wrong with them.

    Args:
        environ: the environment to ask.
        written: whether an operator wrote this in a file here, so that the files it names are
            looked at, and a key without a value is a slip; a program that dumps a model writes
            None for what was not given.
    """

    def __init__(self, environ: Mapping[str, str], *, written: bool = False) -> None:
        self._environ = environ
        self._written = written
        self._problems: list[Problem] = []

    def read(
        self, data: Any
    ) -> tuple[
        tuple[AzureEntraIdConfiguration, ...],
        LlamaStackConfiguration | None,
        tuple[CredentialResolverConfiguration, ...],
        ProxyConfiguration | None,
    ]:
        """Return the identities, where Llama Stack is, who answers for keys, and how the proxy serves.

        Raises:
            LocatedConfigurationError: with every problem.
        """
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            text = "must be a map of blocks, such as llama_stack:"
            raise LocatedConfigurationError([Problem((), text)])
        self._problems += [
            Problem((str(name),), unknown_key(name, _BLOCKS))
            for name in data
            if name not in _BLOCKS and closest(name, _BLOCKS, cutoff=0.85)
        ]
        identities = tuple(self._identities(data))
        stack = None
        if data.get("llama_stack") is not None:
            stack = self._block(LlamaStackConfiguration, data["llama_stack"], ("llama_stack",))
        resolvers = tuple(self._resolvers(data))
        proxy = None
        if data.get("proxy") is not None:
            proxy = self._block(ProxyConfiguration, data["proxy"], ("proxy",))
        if self._problems:
            raise LocatedConfigurationError(self._problems)
        return identities, stack, resolvers, proxy

    def _resolvers(self, data: Mapping[Any, Any]) -> Iterator[CredentialResolverConfiguration]:
        """Yield the resolvers in the order in which they are written."""
        name = "credential_resolvers"
        items = data.get(name)
        if items is None:
            return
        if not isinstance(items, list):
            self._problems.append(Problem((name,), "must be a list, such as - name: vault"))
            return
        seen: set[str] = set()
        for index, item in enumerate(items):
            block = self._block(CredentialResolverConfiguration, item, (name, index))
            if block and block.name in seen:
                text = "is that of another resolver too; give each its own, and say which with use"
                self._problems.append(Problem((name, index, "name"), text))
            elif block:
                seen.add(block.name)
                yield block

    def _identities(self, data: Mapping[Any, Any]) -> Iterator[AzureEntraIdConfiguration]:
        """Yield the identities: none, one block (an empty one too), or a list of blocks."""
        if "azure_entra_id" not in data:
            return
        block = data["azure_entra_id"]
        if not isinstance(block, list):
            one = self._block(
                AzureEntraIdConfiguration, {} if block is None else block, ("azure_entra_id",)
            )
            if one:
                yield one
            return
        if not block:
            self._problems.append(Problem(("azure_entra_id",), "is an empty list; add an identity"))
        seen: dict[str, int] = {}
        for index, item in enumerate(block):
            key = ("azure_entra_id", index)
            if self._is_disabled(item):
                continue
            one = self._block(AzureEntraIdConfiguration, item, key)
            if one:
                if len(block) > 1:
                    self._check_provider_id(one.provider_id, key, seen)
                yield one

    def _check_provider_id(
        self, provider_id: str | None, key: tuple[str, int], seen: dict[str, int]
    ) -> None:
        """Each identity of a list serves one provider, and no two the same."""
        text = ""
        if provider_id is None:
            text = "is missing; with several identities, each names the provider that it serves"
        elif provider_id in seen:
            text = f"is that of azure_entra_id[{seen[provider_id]}] too; give each its own"
        else:
            seen[provider_id] = key[1]
        if text:
            self._problems.append(Problem((*key, "provider_id"), text))

    def _is_disabled(self, item: Any) -> bool:
        """Whether the provider is switched off, the way Llama Stack's providers are."""
        text = item.get("provider_id") if isinstance(item, Mapping) else None
        if not isinstance(text, str) or not text:
            return False
        try:
            return expand(text, self._environ) in ("", "__disabled__")
        except UnsetVariableError:
            return False

    def _block[B: Block](self, kind: type[B], item: Any, key: Key) -> B | None:
        """Return one block, or None when something is wrong with it."""
        if not isinstance(item, Mapping):
            self._problems.append(Problem(key, "must be a map of keys and values"))
            return None
        if kind is LlamaStackConfiguration:  # it has keys of lightspeed-stack's own
            ours = kind.model_fields
            item = {name: item[name] for name in item if closest(name, ours, cutoff=0.8)}
        values, found = self._substituted(item)
        unset = {problem.key for problem in found}
        if self._written:
            found += [
                Problem((name,), "has no value; give one, or remove the key")
                for name in KINDS
                if kind is AzureEntraIdConfiguration and name in item and item[name] is None
            ]
        block: B | None = None
        try:
            more = {"environ": self._environ} if kind is AzureEntraIdConfiguration else {}
            block = kind(**{str(name): value for name, value in values.items()}, **more)
            if self._written:
                found += check_files(block)
        except LocatedConfigurationError as error:
            found += [
                problem
                for problem in error.located
                if problem.key not in unset and (problem.key or not found)
            ]
        self._problems += [Problem((*key, *problem.key), problem.text) for problem in found]
        return None if found else block

    def _substituted(
        self, item: Mapping[Any, Any], within: Key = ()
    ) -> tuple[dict[Any, Any], list[Problem]]:
        """Replace `${env.…}` in a block; a key that comes out empty counts as not given."""
        values: dict[Any, Any] = {}
        broken: list[Problem] = []
        for name, value in item.items():
            if isinstance(value, Mapping):
                values[name], more = self._substituted(value, (*within, name))
                broken += more
                continue
            if isinstance(value, list):
                items, more = self._substituted(dict(enumerate(value)), (*within, name))
                values[name] = list(items.values())
                broken += more
                continue
            if not isinstance(value, str):
                values[name] = value
                continue
            try:
                expanded = expand(value, self._environ)
            except UnsetVariableError as error:
                text = f"{error}; set it, or write ${{env.{error.name}:=a default}}"
                broken.append(Problem((*within, name), text))
                # Something stands here, so that the rest of the block is judged as it is meant.
                expanded = "" if name in _TYPED else "https://unset.invalid/.default"
            if expanded == value:
                values[name] = value
            elif expanded:
                values[name] = convert(expanded) if name in _TYPED else expanded
        return values, broken
