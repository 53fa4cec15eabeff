"""A stack's configuration in, the same with `model_validation: false` on Azure providers out."""

import os
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from lightspeed_azure.config.yaml_file import YamlFile, YamlFileError
from lightspeed_azure.errors import InvalidConfigurationError

AZURE_PROVIDER_TYPE = "remote::azure"


def enrich_azure_entra_id_inference(
    ls_config: MutableMapping[str, Any], azure_entra_id: Any
) -> None:
    """Set `config.model_validation: false` on every `remote::azure` inference provider, in place.

    With it the stack starts without asking Azure about its models. Nothing else changes; without
    Entra ID nothing does.

    Args:
        ls_config: the stack's configuration (run.yaml) as a mapping.
        azure_entra_id: the `azure_entra_id` block; None when Entra ID is not configured.

    Raises:
        InvalidConfigurationError: a part of the configuration has a shape that no stack takes.
    """
    if azure_entra_id is None:
        return
    for provider in azure_inference_providers(ls_config):
        config = provider.get("config")
        if config is None:
            config = provider["config"] = {}
        if not isinstance(config, MutableMapping):
            raise InvalidConfigurationError(
                f"providers.inference: the config of {provider.get('provider_id')!r} is not a map"
            )
        config["model_validation"] = False


def generate_configuration(input_file: str | Path, output_file: str | Path, config: Any) -> None:
    """Write an enriched copy of a stack's configuration file; comments and order survive.

    The output is written whole or not at all, readable by its owner only.

    Args:
        input_file: the stack's run.yaml.
        output_file: where the enriched one goes.
        config: the `azure_entra_id` block as model, mapping or None.

    Raises:
        InvalidConfigurationError: the input cannot be read, or is no stack configuration.
    """
    path = Path(input_file)
    try:
        file = YamlFile(path)
    except YamlFileError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise InvalidConfigurationError(error.problem.line(where)) from None
    if not isinstance(file.tree, MutableMapping):
        raise InvalidConfigurationError(
            f"{path}: not a map; a stack's configuration has keys such as providers"
        )
    try:
        enrich_azure_entra_id_inference(file.tree, config)
    except InvalidConfigurationError as error:
        raise InvalidConfigurationError(
            *(f"{path}: {problem}" for problem in error.problems)
        ) from None
    write_atomically(Path(output_file), file.text())


def azure_inference_providers(
    ls_config: Mapping[str, Any],
) -> Iterator[MutableMapping[str, Any]]:
    """Yield the `remote::azure` inference providers of a stack's configuration.

    Raises:
        InvalidConfigurationError: `providers` or `providers.inference` has the wrong shape.
    """
    providers = ls_config.get("providers") or {}
    if not isinstance(providers, Mapping):
        raise InvalidConfigurationError("providers: not a map; write the APIs as its keys")
    inference = providers.get("inference") or []
    if not isinstance(inference, list):
        raise InvalidConfigurationError("providers.inference: not a list of providers")
    for provider in inference:
        if isinstance(provider, MutableMapping) and is_azure(provider.get("provider_type")):
            yield provider


def is_azure(provider_type: object) -> bool:
    """Return whether a provider type is Azure's, conditional (`${env.KEY:+remote::azure}`) or not."""
    return isinstance(provider_type, str) and (
        provider_type == AZURE_PROVIDER_TYPE
        or (
            provider_type.startswith("${env.")
            and provider_type.endswith(f":+{AZURE_PROVIDER_TYPE}}}")
        )
    )


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
