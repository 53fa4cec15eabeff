"""What an operator writes: our blocks of `lightspeed-stack.yaml`, checked all at once.

Only `azure_entra_id` and `llama_stack` are read; everything else in the file belongs to others.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightspeed_azure.block import Block
from lightspeed_azure.entra_id_block import AzureEntraIdConfiguration
from lightspeed_azure.environment import UnsetVariableError, convert, expand
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.files_named import check_files
from lightspeed_azure.llama_stack_block import LlamaStackConfiguration
from lightspeed_azure.problems import Key, LocatedConfigurationError, Problem, closest, unknown_key
from lightspeed_azure.yaml_file import YamlFile, YamlFileError, plain

__all__ = [
    "AzureEntraIdConfiguration",
    "Configuration",
    "LlamaStackConfiguration",
    "configuration_from_mapping",
    "load_configuration",
]

_TYPED = frozenset(
    [
        "allow_insecure",
        "azure_cli",
        "deadline",
        "default",
        "prefetch",
        "send_certificate_chain",
        "timeout",
        "use_as_library_client",
    ]
)
"""Keys whose substituted text becomes a boolean or a number; a secret of digits stays a text."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Our part of the operator's configuration.

    Attributes:
        azure_entra_id: the identities; none when Entra ID is not configured.
        llama_stack: where Llama Stack is, or None when the file does not say.
    """

    azure_entra_id: tuple[AzureEntraIdConfiguration, ...] = ()
    llama_stack: LlamaStackConfiguration | None = None


def load_configuration(
    path: str | Path | None = None, *, environ: Mapping[str, str] | None = None
) -> Configuration:
    """Read the operator's file; may wait for the disk.

    Args:
        path: the file; when None, the one that LIGHTSPEED_STACK_CONFIG_PATH names, else
            `lightspeed-stack.yaml` in the working directory.
        environ: the environment to ask; the process's when None.

    Raises:
        InvalidConfigurationError: with every problem, each as `file:line: key: what; cure`.
    """
    environ = os.environ if environ is None else environ
    file = Path(path or environ.get("LIGHTSPEED_STACK_CONFIG_PATH") or "lightspeed-stack.yaml")
    failure: InvalidConfigurationError
    try:
        yaml = YamlFile(file)
        return _read(plain(yaml.tree), environ)
    except YamlFileError as error:
        where = f"{file}:{error.line}" if error.line else str(file)
        failure = InvalidConfigurationError(error.problem.line(where))
    except LocatedConfigurationError as error:
        located = sorted(error.located, key=lambda problem: yaml.line_of(problem.key))
        failure = InvalidConfigurationError(
            *(problem.line(yaml.where(problem.key)) for problem in located)
        )
    raise failure


def configuration_from_mapping(
    data: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    where: str = "configuration",
) -> Configuration:
    """Read a configuration that somebody has parsed already.

    Args:
        data: the whole of `lightspeed-stack.yaml` as a mapping.
        environ: the environment to ask; the process's when None.
        where: what to call it in messages.

    Raises:
        InvalidConfigurationError: with every problem, each as `where: key: what; cure`.
    """
    try:
        return _read(data, os.environ if environ is None else environ)
    except LocatedConfigurationError as error:
        failure = InvalidConfigurationError(*(problem.line(where) for problem in error.located))
    raise failure


def _read(data: Any, environ: Mapping[str, str]) -> Configuration:
    """Read the parsed file, or raise with every problem in it."""
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise LocatedConfigurationError(
            [Problem((), "must be a map of blocks, such as llama_stack:")]
        )
    problems = [
        Problem((name,), unknown_key(name, ("azure_entra_id", "llama_stack")))
        for name in data
        if name not in ("azure_entra_id", "llama_stack")
        and closest(name, ("azure_entra_id", "llama_stack"), cutoff=0.85)
    ]
    identities = _read_identities(data, environ, problems)
    stack = None
    if data.get("llama_stack") is not None:
        stack = _read_block(
            LlamaStackConfiguration, data["llama_stack"], ("llama_stack",), environ, problems
        )
    if problems:
        raise LocatedConfigurationError(problems)
    return Configuration(identities, stack)


def _read_identities(
    data: Mapping[str, Any], environ: Mapping[str, str], problems: list[Problem]
) -> tuple[AzureEntraIdConfiguration, ...]:
    """Read `azure_entra_id`: absent, empty, one block, or a list of blocks."""
    if "azure_entra_id" not in data:
        return ()
    block = data["azure_entra_id"]
    listed = isinstance(block, list)
    if listed and not block:
        problems.append(Problem(("azure_entra_id",), "is an empty list; add an identity"))
    found: list[AzureEntraIdConfiguration] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(block if listed else [block]):
        key: Key = ("azure_entra_id", index) if listed else ("azure_entra_id",)
        if listed and _is_disabled(item, environ):
            continue
        one = _read_block(AzureEntraIdConfiguration, item or {}, key, environ, problems)
        if one is None:
            continue
        if listed and len(block) > 1:
            _check_provider_id(one, key, seen, index, problems)
        found.append(one)
    return tuple(found)


def _check_provider_id(
    one: AzureEntraIdConfiguration,
    key: Key,
    seen: dict[str, int],
    index: int,
    problems: list[Problem],
) -> None:
    """Each identity of a list serves one provider, and no two the same."""
    if one.provider_id is None:
        text = "is missing; with several identities, each names the Llama Stack provider it serves"
        problems.append(Problem((*key, "provider_id"), text))
    elif one.provider_id in seen:
        text = f"is that of azure_entra_id[{seen[one.provider_id]}] too; give each its own"
        problems.append(Problem((*key, "provider_id"), text))
    else:
        seen[one.provider_id] = index


def _is_disabled(item: Any, environ: Mapping[str, str]) -> bool:
    """Whether a list entry's provider is switched off, as Llama Stack's own providers can be."""
    text = item.get("provider_id") if isinstance(item, Mapping) else None
    if not isinstance(text, str):
        return False
    try:
        expanded = expand(text, environ)
    except UnsetVariableError:
        return False
    return expanded == "__disabled__" or (expanded == "" and text != "")


def _read_block[B: Block](
    kind: type[B], item: Any, key: Key, environ: Mapping[str, str], problems: list[Problem]
) -> B | None:
    """Read one block; what is wrong is appended to `problems`."""
    if not isinstance(item, Mapping):
        problems.append(Problem(key, "must be a map of keys and values"))
        return None
    values, broken = _substituted(item, environ)
    found = [Problem((*key, *at), text) for at, text in broken]
    if kind is LlamaStackConfiguration:
        values = {
            name: value
            for name, value in values.items()
            if name in kind.model_fields or closest(name, kind.model_fields, cutoff=0.8)
        }
    block: B | None = None
    try:
        more = {"environ": environ} if kind is AzureEntraIdConfiguration else {}
        block = kind(**{str(name): value for name, value in values.items()}, **more)
        found += [Problem((*key, *at), text) for at, text in check_files(block)]
    except LocatedConfigurationError as error:
        unset = {at for at, _ in broken}
        found += [Problem((*key, *at), text) for at, text in error.located if at not in unset]
    problems += found
    return block if not found else None


def _substituted(
    item: Mapping[Any, Any], environ: Mapping[str, str], within: Key = ()
) -> tuple[dict[Any, Any], list[Problem]]:
    """Replace `${env.…}` in a block; keys that came out empty are left out."""
    values: dict[Any, Any] = {}
    broken: list[Problem] = []
    for name, value in item.items():
        if isinstance(value, Mapping):
            values[name], more = _substituted(value, environ, (*within, name))
            broken += more
        elif isinstance(value, str):
            try:
                expanded = expand(value, environ)
            except UnsetVariableError as error:
                text = f"{error}; set it, or write ${{env.{error.name}:=a default}}"
                broken.append(Problem((*within, name), text))
                # Something stands here, so that the rest of the block is judged as it is meant.
                if name not in _TYPED:
                    values[name] = "unset"
                continue
            if expanded == value:
                values[name] = value
            elif expanded != "":
                values[name] = convert(expanded) if name in _TYPED else expanded
        else:
            values[name] = value
    return values, broken
