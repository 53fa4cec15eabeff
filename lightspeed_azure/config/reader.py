"""From a parsed file to our blocks, with every problem on the way."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightspeed_azure.config.block import Block, typed_keys
from lightspeed_azure.config.credential_kinds import KINDS
from lightspeed_azure.config.credential_resolver import (
    BUILT_IN,
    CredentialResolverConfiguration,
    check_kind,
    check_plugin,
)
from lightspeed_azure.config.credential_shapes import flattened, items_of
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.config.environment import UnsetVariableError, expand
from lightspeed_azure.config.files_named import check_files, check_source
from lightspeed_azure.config.llama_stack import LlamaStackConfiguration
from lightspeed_azure.config.problems import (
    Key,
    LocatedConfigurationError,
    Problem,
    closest,
    unknown_key,
)
from lightspeed_azure.config.provider_credentials import ProviderCredential, check_against
from lightspeed_azure.config.proxy import ProxyConfiguration
from lightspeed_azure.config.substitution import substituted
from lightspeed_azure.config.unified import provider_problems, stack_block, with_unified

_BLOCKS = (
    "azure_entra_id",
    "ogx",
    "llama_stack",
    "credential_resolvers",
    "provider_credentials",
    "proxy",
)

_TYPED = typed_keys(
    AzureEntraIdConfiguration,
    LlamaStackConfiguration,
    CredentialResolverConfiguration,
    ProviderCredential,
    ProxyConfiguration,
    *BUILT_IN.values(),
)
"""Keys whose substituted text becomes a boolean or a number."""


class Reader:
    """Reads our blocks, and collects what is wrong with them.

    Args:
        environ: the environment to ask.
        written: whether an operator wrote this in a file here, so that the files it names are
            looked at, and a key without a value is a slip; a program that dumps a model writes
            None for what was not given.
        folder: the directory of the file, to which `config.profile` is relative.
        allow_insecure: whether the stack may be reached over plain HTTP on another machine,
            whatever the file says; None leaves it to the file and the environment.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        written: bool = False,
        folder: Path | None = None,
        allow_insecure: bool | None = None,
    ) -> None:
        self._environ = environ
        self._written = written
        self._folder = folder
        self._allow_insecure = allow_insecure
        self._problems: list[Problem] = []

    def read(
        self, data: Any
    ) -> tuple[
        tuple[AzureEntraIdConfiguration, ...],
        LlamaStackConfiguration | None,
        tuple[CredentialResolverConfiguration, ...],
        tuple[ProviderCredential, ...],
        ProxyConfiguration | None,
    ]:
        """Return each block: `Configuration` has them in this order.

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
        stack = self._stack(data)
        resolvers = tuple(self._resolvers(data))
        entries = data.get("provider_credentials")
        credentials = tuple(self._credentials(entries, identities, resolvers))
        proxy = None
        if data.get("proxy") is not None:
            proxy = self._block(ProxyConfiguration, data["proxy"], ("proxy",))
        if self._problems:
            raise LocatedConfigurationError(self._problems)
        return identities, stack, resolvers, credentials, proxy

    def _stack(self, data: Mapping[Any, Any]) -> LlamaStackConfiguration | None:
        """Return the block that says where the stack is, with its part of unified mode."""
        name, item = stack_block(data)
        if item is None:
            return None
        if isinstance(item, Mapping):
            inference = data.get("inference")
            providers = inference.get("providers") if isinstance(inference, Mapping) else None
            found = list(provider_problems(providers)) if providers else []
            if found:
                within = ("inference", "providers")
                self._problems += [Problem((*within, *each.key), each.text) for each in found]
                data = {}
                item = {**item, "config": item.get("config") or {}}
            item = with_unified(item, data, self._folder, self._environ)
            if self._allow_insecure is not None:
                item = {**item, "allow_insecure": self._allow_insecure}
        return self._block(LlamaStackConfiguration, item, (name,))

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
                if self._written:
                    self._problems += [
                        Problem((name, index, *each.key), each.text) for each in check_kind(block)
                    ]
                yield block

    def _credentials(
        self,
        block: Any,
        identities: Sequence[AzureEntraIdConfiguration],
        resolvers: Sequence[CredentialResolverConfiguration],
    ) -> Iterator[ProviderCredential]:
        """Yield what fills the fields of other providers, one field each."""
        seen: set[tuple[str | None, ...]] = set()
        try:
            items = items_of([] if block is None else block)
        except LocatedConfigurationError as error:
            items = []
            self._problems += [Problem(("provider_credentials",), e.text) for e in error.located]
        for within, item in items:
            key: Key = ("provider_credentials", *within)
            if self._is_disabled(item):
                continue
            for one in self._entry(item, key):
                which = (one.provider_id, one.provider_type, one.field)
                text = "fills a field that an entry above fills already; keep one of them"
                found = [] if which not in seen else [Problem(key, text)]
                found += check_against(one, identities, key)
                if self._written and one.source.plugin:
                    at = (*key, "source", "plugin")
                    slips = check_plugin(one.source.plugin, resolvers)
                    found += [Problem(at, slip.text) for slip in slips]
                seen.add(which)
                self._problems += found
                yield one

    def _entry(self, item: Any, key: Key) -> Iterator[ProviderCredential]:
        """Yield the fields of one entry; note what is wrong with it."""
        if not isinstance(item, Mapping):
            self._problems.append(Problem(key, "must be a map of keys and values"))
            return
        values, found = substituted(item, self._environ, _TYPED)
        unset = {problem.key for problem in found}
        try:
            for written in flattened(values):
                try:
                    one = ProviderCredential(**written.data)
                    if not found:
                        yield one
                    if self._written:
                        looked = check_source(one, self._environ)
                        found += [Problem(written.located(each), each.text) for each in looked]
                except LocatedConfigurationError as error:
                    found += [Problem(written.located(each), each.text) for each in error.located]
        except LocatedConfigurationError as error:
            found += error.located
        self._problems += [
            Problem((*key, *problem.key), problem.text)
            for problem in found
            if problem.key in unset or not unset
        ]

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
        values, found = substituted(item, self._environ, _TYPED)
        unset = {problem.key for problem in found}
        if self._written:
            found += [
                Problem((name,), "has no value; give one, or remove the key")
                for name in KINDS
                if kind is AzureEntraIdConfiguration and name in item and item[name] is None
            ]
        block: B | None = None
        try:
            asks = (AzureEntraIdConfiguration, LlamaStackConfiguration)
            more = {"environ": self._environ} if kind in asks else {}
            block = kind(**{str(name): value for name, value in values.items()}, **more)
            if self._written:
                found += [each for each in check_files(block) if each.key not in unset]
        except LocatedConfigurationError as error:
            emptied = [name for name in item if item[name] is not None and name not in values]
            found += [
                _of_emptied(problem, emptied)
                for problem in error.located
                if problem.key not in unset and (problem.key or not found)
            ]
        self._problems += [Problem((*key, *problem.key), problem.text) for problem in found]
        return None if found else block


def _of_emptied(problem: Problem, emptied: Sequence[str]) -> Problem:
    """Return the problem of a key that is missing, reworded where it is written but comes out empty.

    Args:
        problem: what is wrong with a block.
        emptied: the keys of the block whose `${env.…}` gave an empty text.
    """
    choosing = [name for name in emptied if name in KINDS]
    key = problem.key or tuple(choosing[:1])
    if len(key) == 1 and key[0] in emptied:
        return Problem(key, "is empty once its variables are filled in; give it a value")
    return problem
