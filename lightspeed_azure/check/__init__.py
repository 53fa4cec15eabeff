"""Checks every part between the configuration and an answer of Azure.

Each part is checked by itself, so that one failure does not hide the results of the others.
Findings hold no secret; the token is sent only where a request of the service would send it.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from lightspeed_azure.check.callers import check_callers
from lightspeed_azure.check.configuration import (
    CONFIGURATION,
    check_identities,
    check_provider_ids,
    check_run_yaml,
    providers_known,
)
from lightspeed_azure.check.entra_id import check_authority, check_token
from lightspeed_azure.check.finding import (
    Finding,
    State,
    as_data,
    failed,
    from_problem,
    ok,
    warning,
)
from lightspeed_azure.check.inference import INFERENCE, check_library, check_service
from lightspeed_azure.check.keys import check_fields, check_keys, check_resolvers
from lightspeed_azure.check.stack import STACK, StackService
from lightspeed_azure.clients.generation import LLAMA_STACK
from lightspeed_azure.clients.generations import installed
from lightspeed_azure.config import Configuration, LlamaStackConfiguration, load_configuration
from lightspeed_azure.enrichment.synthesis import source_name
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys import configured
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager

__all__ = [
    "Finding",
    "State",
    "as_data",
    "check_library_mode",
    "configuration_findings",
    "run_checks",
]

type Working = Callable[[str], AbstractContextManager[None]]
"""Shows progress while its block runs."""


def run_checks(
    config: Path,
    *,
    run_yaml: Path | None = None,
    inference: str | None = None,
    working: Working = nullcontext,  # type: ignore[assignment]
) -> Iterator[Finding]:
    """Run all checks and yield their findings as they come.

    Args:
        config: lightspeed-stack.yaml.
        run_yaml: the stack's own file, when the configuration does not name it.
        inference: a model to ask one question.
        working: shows progress while its block runs.

    Raises:
        InvalidConfigurationError: the configuration cannot work, so nothing else can be checked.
    """
    loaded = load_configuration(config)
    yield ok(CONFIGURATION, f"{config} can be read, its keys are right")
    yield from check_identities(loaded)
    yield from check_run_yaml(loaded, run_yaml)
    known = providers_known(loaded, run_yaml)
    with configured(loaded.credential_resolvers, loaded.azure_entra_id):
        manager = AzureEntraIDManager.isolated(list(loaded.azure_entra_id) or None)
        try:
            yield from _remote(loaded, manager, inference, working, known)
        finally:
            manager.close()


def _remote(
    config: Configuration,
    manager: AzureEntraIDManager,
    model: str | None,
    working: Working,
    known: tuple[dict[str, str], dict[str, str | None]],
) -> Iterator[Finding]:
    """Yield the findings about Entra ID, the stack, and Azure.

    Args:
        config: the service's configuration.
        manager: supplies the tokens.
        model: to ask one question, or None.
        working: shows progress while its block runs.
        known: the providers of the stack's own file, as `providers_known` returns them.
    """
    providers, endpoints = known
    stack = config.llama_stack
    credentials = ProviderCredentials(config.provider_credentials, manager=lambda: manager)
    azure = bool(config.azure_entra_id or not credentials)
    service = (
        StackService(stack, azure=azure) if stack and not stack.use_as_library_client else None
    )
    about_stack: list[Finding] = []
    if service:
        with working("Asking the stack"):
            about_stack = list(service.check())
    if service and service.is_reachable:
        providers, endpoints = service.providers, service.endpoints
    for identity in manager.identities:
        endpoint = endpoints.get(identity.provider_id or "") or next(
            (url for url in endpoints.values() if url and identity.provider_id is None), None
        )
        with working("Asking Entra ID"):
            yield from list(check_authority(identity.config))
            yield from list(check_token(identity, endpoint, asked=model is not None))
    family = _family(stack, service)
    with working("Looking up keys"):
        yield from list(check_keys(config, manager, providers, family))
        yield from list(check_resolvers())
    yield from about_stack
    yield from check_fields(providers, family, credentials)
    yield from check_provider_ids(config, providers)
    if config.proxy is not None:
        with working("Asking the issuer of the callers' tokens"):
            yield from list(check_callers(config.proxy))
    if stack is None:
        yield failed(STACK, "is not configured", "Add an ogx (or llama_stack) block with its url")
    elif stack.use_as_library_client:
        yield check_library_mode(stack, asked=model is not None)
    if model and stack and (manager.identities or credentials):
        with working(f"Asking {model}"):
            if service and not service.is_reachable:
                yield warning(INFERENCE, f"{model} was not asked: the stack cannot be")
            elif service:
                yield from list(
                    check_service(service, manager, credentials, model, timeout=stack.timeout)
                )
            else:
                yield from list(check_library(stack, manager, credentials, model))
    credentials.close()


def _family(stack: LlamaStackConfiguration | None, service: StackService | None) -> str:
    """Return the family whose provider fields count; Llama Stack's when it is not known."""
    if service or stack is None:
        return ((service and service.family) or LLAMA_STACK).family
    try:
        return installed(stack)[0].family
    except InvalidConfigurationError:
        return LLAMA_STACK.family  # the missing package is another finding


def check_library_mode(stack: LlamaStackConfiguration, *, asked: bool = False) -> Finding:
    """Check whether a stack can run inside this process.

    Args:
        stack: the stack's block.
        asked: whether a question follows, which checks the rest.
    """
    try:
        generation = installed(stack)[0]
    except InvalidConfigurationError as error:
        what, _, cure = str(error).partition("; ")
        return failed(STACK, what, cure)
    try:
        version = importlib.metadata.version(generation.stack.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        version = "of an unknown version"
    found = f"{generation.title} {version} inside the service, from {source_name(stack)}"
    if asked:
        return ok(STACK, found)
    return warning(STACK, f"{found}; not started here", "Ask it with --inference MODEL")


def configuration_findings(error: InvalidConfigurationError) -> Iterator[Finding]:
    """Yield the problems of a configuration that cannot work."""
    for problem in error.problems:
        yield from_problem(CONFIGURATION, problem)
