"""What the operator wrote: the configuration, the files it names, and the stack's own file."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from lightspeed_azure.check.claims import claims_of
from lightspeed_azure.check.finding import Finding, State, ill, look, of_problem, well
from lightspeed_azure.config import AzureEntraIdConfiguration, Configuration
from lightspeed_azure.config.problems import meant
from lightspeed_azure.enrichment import endpoints_in, enriched, identities_of, providers_in, read
from lightspeed_azure.enrichment.synthesis import source_name, stack_configuration
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.secrets import SecretFile, is_mounted_alone

CONFIGURATION, CREDENTIAL, RUN_YAML = "configuration", "credential", "run.yaml"
ASSERTION = "assertion"

EXCHANGE = "api://AzureADTokenExchange"
"""The audience of assertions; other clouds append their name.

https://learn.microsoft.com/entra/workload-id/workload-identity-federation
"""


def name_of(block: AzureEntraIdConfiguration, question: str) -> str:
    """Return a question with the provider that an identity serves, if it names one."""
    return f"{question} ({block.provider_id})" if block.provider_id else question


def of_identities(config: Configuration) -> Iterator[Finding]:
    """Yield what each identity signs in with, and whether its file can change."""
    if not config.azure_entra_id and not config.provider_credentials:
        yield ill(
            CREDENTIAL,
            "Entra ID is not configured",
            "Add an azure_entra_id block; an empty one reads the AZURE_… variables",
        )
    for block in config.azure_entra_id:
        question = name_of(block, CREDENTIAL)
        who = ", ".join(
            f"{name} {value}"
            for name, value in (("tenant", block.tenant_id), ("application", block.client_id))
            if value
        )
        found = f"{block.credential_kind}{f', {who}' if who else ''}"
        file = block.secret_file()
        if file is None:
            hint = ", in the configuration or environment" if block.kind.variable else ""
            yield well(question, found + hint)
        elif is_mounted_alone(file.path):
            yield look(
                question,
                f"{found}; {file.path} is on a subPath mount, or mounted as a single file: it never changes",
                "Mount the whole volume, so that a rotated secret arrives without a restart",
            )
        else:
            yield well(question, f"{found}; {file.path} is read again for each renewal")
        if file and block.kind.is_assertion:
            yield from _of_assertion(name_of(block, ASSERTION), file)


def _of_assertion(question: str, file: SecretFile) -> Iterator[Finding]:
    """Yield what a federated credential is compared with; none of these claims is a secret."""
    claims = claims_of(file.read()) or {}
    given = claims.get("aud")
    audiences = [str(each) for each in given] if isinstance(given, list) else [str(given)]
    found = f"iss {claims.get('iss')}, sub {claims.get('sub')}, aud {', '.join(audiences)}"
    if any(each.startswith(EXCHANGE) for each in audiences):
        yield well(question, found)
    else:
        cure = f"Have it issued for {EXCHANGE}, unless the federated credential names this audience"
        yield look(question, found, cure)


def providers_known(
    config: Configuration, given: Path | None
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return the providers of the stack's own file, if it is here.

    Returns:
        provider_id → provider_type of all of them, and provider_id → base_url of Azure's.
    """
    try:
        found = _run_yaml(config, given)
        return (providers_in(*found), endpoints_in(*found)) if found else ({}, {})
    except InvalidConfigurationError:
        return {}, {}  # of_run_yaml reports it


def of_provider_ids(config: Configuration, providers: Mapping[str, str]) -> Iterator[Finding]:
    """Yield which identities serve a provider that the stack does not have.

    Args:
        config: the service's.
        providers: provider_id → provider_type; empty when the stack's providers are not known.
    """
    used = {
        entry.source.entra.identity for entry in config.provider_credentials if entry.source.entra
    } | {getattr(resolver.options, "identity", None) for resolver in config.credential_resolvers}
    for block in config.azure_entra_id if providers else ():
        name = block.provider_id
        if name is not None and name not in providers and name not in used:
            yield of_problem(
                name_of(block, CREDENTIAL),
                f"the stack has no provider {name}; {meant(name, providers)}",
            )


def _run_yaml(config: Configuration, given: Path | None) -> tuple[str, str] | None:
    """Return the text of the stack's own configuration and its name, as far as it is here."""
    stack = config.llama_stack
    if given is not None:
        return read(given), str(given)
    if stack is None:
        return None
    if stack.use_as_library_client:
        return stack_configuration(stack)
    path = stack.library_client_config_path
    there = path is not None and os.path.exists(path)  # noqa: PTH110 - never raises
    return (read(path), str(path)) if path and there else None


def of_run_yaml(config: Configuration, given: Path | None) -> Iterator[Finding]:
    """Yield what the enricher says of the stack's configuration."""
    stack = config.llama_stack
    azure = bool(config.azure_entra_id or not config.provider_credentials)
    identities = identities_of(list(config.azure_entra_id)) or ((None,) if azure else ())
    try:
        found = _run_yaml(config, given)
        if found is None:
            return
        text, name = found
        library = bool(stack and stack.use_as_library_client and name == source_name(stack))
        outcome = enriched(text, name, identities, expand_aliases=library)
    except InvalidConfigurationError as error:
        yield from (of_problem(RUN_YAML, problem) for problem in error.problems)
        return
    if outcome.changes and not library:
        for change in outcome.changes:
            cure = f"lightspeed-azure enrich {name} -o enriched.yaml, and start the stack from that"
            yield look(RUN_YAML, f"not enriched: {change}", cure)
    else:
        how = "is enriched when the stack starts" if outcome.changes else "needs no enriching"
        yield well(RUN_YAML, f"{name} {how}")
    for warning in outcome.warnings:
        # In library mode the stack starts here, so what it needs can be judged here.
        fatal = library and warning in outcome.fatal
        yield of_problem(RUN_YAML, warning, state=State.ILL if fatal else State.LOOK)
