"""Unified mode: the stack's configuration is described in `lightspeed-stack.yaml` itself.

`config:` in the stack's block and `inference.providers` at the root replace the stack's own file. The
keys and their meaning are those of lightspeed-stack 0.7 (`UnifiedOgxConfig`, `UnifiedInferenceProvider`).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lightspeed_azure.config.block import Block
from lightspeed_azure.config.environment import UnsetVariableError, expand
from lightspeed_azure.config.problems import Problem
from lightspeed_azure.config.values import file_path, plain_text
from lightspeed_azure.config.yaml_file import YamlFile, YamlFileError, plain
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import RedactedDict, redacted

CONFIG_VARIABLE = "LIGHTSPEED_STACK_CONFIG_PATH"
"""Names lightspeed-stack.yaml; lightspeed-stack sets it for its workers."""

BASELINES = ("default", "byo-llm", "empty")


def _baseline(value: Any) -> str:
    text = plain_text(value)
    if text not in BASELINES:
        raise ValueError(f"must be one of {', '.join(BASELINES)}")
    return text


def _override(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("must be a map of keys and values")  # noqa: TRY004 - pydantic collects it
    return redacted(value)


def _providers(value: Any) -> tuple[RedactedDict, ...]:
    if faults := list(provider_problems(value)):
        raise ValueError(f"item {faults[0].key[0]}: {faults[0].text}")
    return tuple(redacted(each) for each in value)


def provider_problems(providers: Any) -> Iterator[Problem]:
    """Yield what is wrong with `inference.providers`, with keys below that list."""
    if not isinstance(providers, list | tuple):
        yield Problem((), "must be a list, such as - type: azure")
        return
    seen: dict[str, int] = {}
    for index, item in enumerate(providers):
        if not isinstance(item, Mapping):
            yield Problem((index,), "must be a map of keys and values")
            continue
        if not isinstance(item.get("type"), str) or not item["type"].strip():
            yield Problem((index, "type"), "is missing; write azure, openai, vllm or another type")
            continue
        for key, kind, text in (
            ("id", str, "must be text"),
            ("api_key_env", str, "must be the name of a variable"),
            ("allowed_models", list, "must be a list of names"),
            ("extra", Mapping, "must be a map of keys and values"),
        ):
            if item.get(key) is not None and not isinstance(item[key], kind):
                yield Problem((index, key), text)
        name = str(item.get("id") or item["type"].replace("_", "-"))
        if name in seen:
            text = f"has the id {name} of item {seen[name]}; give one of them another id"
            yield Problem((index,), text)
        seen.setdefault(name, index)


class UnifiedConfiguration(Block):
    """What the stack's configuration is made of.

    Attributes:
        baseline: what to start from when there is no `profile`: "empty", or a small stack with
            inference and responses.
        profile: a file of the stack's own format to start from.
        native_override: merged into the result last; maps are merged, everything else is replaced.
        inference_providers: the `inference.providers` list of the file, as written there.

    Raises:
        InvalidConfigurationError: with every problem of the block.
    """

    baseline: Annotated[str, BeforeValidator(_baseline)] = "default"
    profile: Annotated[Path | None, BeforeValidator(file_path)] = None
    native_override: Annotated[Any, BeforeValidator(_override), Field(repr=False, exclude=True)] = (
        RedactedDict()
    )
    inference_providers: Annotated[
        Any, BeforeValidator(_providers), Field(repr=False, exclude=True)
    ] = ()


def with_unified(
    block: Mapping[str, Any],
    root: Mapping[Any, Any],
    folder: Path | None,
    environ: Mapping[str, str],
) -> Mapping[str, Any]:
    """Return the stack's block with the parts of unified mode that are outside it.

    Args:
        block: the stack's block.
        root: the whole file.
        folder: the file's directory, to which `profile` is relative; None for the working directory.
        environ: the variables that `profile` may name.
    """
    inference = root.get("inference")
    providers = inference.get("providers") if isinstance(inference, Mapping) else None
    vector_store = root.get("vector_store")
    stores = vector_store.get("providers") if isinstance(vector_store, Mapping) else None
    config = block.get("config")
    if not providers and not stores and config is None:
        return block
    if config is not None and not isinstance(config, Mapping):
        return block
    config = RedactedDict(config or {})
    config["inference_providers"] = providers
    profile = config.get("profile")
    if isinstance(profile, str) and profile and folder is not None:
        with contextlib.suppress(UnsetVariableError):  # reported with the other problems
            config["profile"] = str(folder / Path(expand(profile, environ)).expanduser())
    return RedactedDict({**block, "config": config})


def with_operators_file(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block in unified mode, completed from the file that lightspeed-stack itself reads.

    lightspeed-stack's own model of the block does not hold `inference.providers`; lightspeed-stack
    reads them from the file that LIGHTSPEED_STACK_CONFIG_PATH names. So does this; without the
    variable the block stays as it is.

    Raises:
        InvalidConfigurationError: the file cannot be read.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if not named:
        return block
    root = _root(Path(named))
    written = stack_block(root)[1]
    if isinstance(written, Mapping) and written.get("config") is not None:
        block = {**block, "config": written["config"]}
    return with_unified(block, root, Path(named).absolute().parent, os.environ)


def unified_in(path: Path) -> UnifiedConfiguration | None:
    """Return what a lightspeed-stack.yaml describes in unified mode; None when it is not.

    Raises:
        InvalidConfigurationError: the file cannot be read, or its unified mode cannot work.
    """
    root = _root(path)
    block = stack_block(root)[1]
    block = block if isinstance(block, Mapping) else {}
    config = with_unified(block, root, path.absolute().parent, os.environ).get("config")
    return None if config is None else UnifiedConfiguration.from_object(config)


def _root(path: Path) -> Mapping[str, Any]:
    try:
        root = plain(YamlFile(path).tree)
    except YamlFileError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise InvalidConfigurationError(error.problem.line(where)) from None
    return RedactedDict(root) if isinstance(root, Mapping) else {}


def stack_block(root: Mapping[Any, Any]) -> tuple[str, Any]:
    """Return the name and the content of the stack's block: `ogx` wins over `llama_stack`."""
    name = "ogx" if root.get("ogx") is not None else "llama_stack"
    return name, root.get(name)
