"""A stack's configuration in, the same with Entra ID's part in it out.

One file through this room: `document.py` parses it and knows where everything stands;
`providers.py` finds the Azure providers; `plan.py` says what to change and `advice.py` what to
look at; `rewriting.py` edits the text and verifies the result; `stack_file.py` reads and writes.
Imports nothing heavy.
"""

import copy
import logging
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from lightspeed_azure.enrichment.providers import (
    AZURE_PROVIDER_TYPE,
    all_providers,
    azure_providers,
)
from lightspeed_azure.enrichment.stack_file import (
    Enriched,
    decode,
    endpoints_in,
    enrich_text,
    identities_in,
    identities_of,
    providers_in,
    read,
    write_atomically,
)

__all__ = [
    "AZURE_PROVIDER_TYPE",
    "Enriched",
    "decode",
    "endpoints_in",
    "enrich_azure_entra_id_inference",
    "enrich_text",
    "generate_configuration",
    "identities_in",
    "identities_of",
    "log_outcome",
    "providers_in",
    "read",
    "write_atomically",
]

_logger = logging.getLogger(__name__)


def enrich_azure_entra_id_inference(
    ls_config: MutableMapping[str, Any], azure_entra_id: Any
) -> None:
    """Set `config.model_validation: false` on every `remote::azure` inference provider, in place.

    Nothing else changes, not even where another provider shares the same `config`; without Entra ID
    nothing does.

    Args:
        ls_config: the stack's configuration (run.yaml) as a mapping.
        azure_entra_id: the `azure_entra_id` block; None when Entra ID is not configured.

    Raises:
        InvalidConfigurationError: a part of the configuration has a shape that no stack takes.
    """
    if azure_entra_id is None:
        return
    azure = azure_providers(ls_config)
    ours = {id(provider.entry) for provider in azure}
    others = {
        id(entry.get("config"))
        for entry in all_providers(ls_config)
        if id(entry) not in ours and entry.get("config") is not None
    }
    for provider in azure:
        config = provider.entry.get("config")
        if config is None:
            config = provider.entry["config"] = {}
        elif id(config) in others:
            config = provider.entry["config"] = copy.copy(config)
        config["model_validation"] = False


def generate_configuration(
    input_file: str | Path,
    output_file: str | Path,
    config: Any,
    *,
    repair: bool = True,
    drop_api_key: bool = False,
    expand_aliases: bool = False,
) -> None:
    """Write an enriched copy of a stack's configuration file; only Azure's lines differ.

    Beside `model_validation: false` it puts right what keeps a stack from starting without a key.
    Each change is logged, and each thing that the operator should look at, with its line. The
    output is written whole or not at all, readable by its owner only.

    Args:
        input_file: the stack's run.yaml, or the same as JSON.
        output_file: where the enriched one goes.
        config: the `azure_entra_id` block as model or mapping, a list of these, or None; or a whole
            configuration as model or mapping, whose `azure_entra_id` counts. Without that block the
            output is the input.
        repair: False leaves all but `model_validation` as it is.
        drop_api_key: remove the `api_key` of Azure providers.
        expand_aliases: write the content as one line of YAML without aliases and comments. Without
            it an alias or a merge key on an Azure provider is an error.

    Raises:
        InvalidConfigurationError: the input cannot be read, or is no stack configuration.
    """
    source = Path(input_file)
    outcome = enrich_text(
        read(source),
        str(source),
        identities_of(config),
        repair=repair,
        drop_api_key=drop_api_key,
        expand_aliases=expand_aliases,
    )
    write_atomically(Path(output_file), outcome.after)
    log_outcome(outcome)


def log_outcome(outcome: Enriched) -> None:
    """Log each change, and each thing that the operator should look at."""
    for change in outcome.changes:
        _logger.info("Enriched %s", change)
    for warning in outcome.warnings:
        _logger.warning("%s", warning)
