"""The doctor: asks everything between the configuration and an answer of Azure's, and says what it found.

Each part answers by itself, so that one which is down leaves the others' answers. Nothing here
holds or shows a secret; the token goes only where a request of the service's would take it.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from lightspeed_azure.check.authority import of_authority
from lightspeed_azure.check.callers import of_callers
from lightspeed_azure.check.configuration import (
    CONFIGURATION,
    of_identities,
    of_provider_ids,
    of_run_yaml,
    providers_known,
)
from lightspeed_azure.check.credentials import of_credentials, of_fields
from lightspeed_azure.check.finding import Finding, State, as_data, ill, look, of_problem, well
from lightspeed_azure.check.inference import INFERENCE, of_library, of_service
from lightspeed_azure.check.resolvers import of_resolvers
from lightspeed_azure.check.stack import STACK, StackService
from lightspeed_azure.check.token import of_token
from lightspeed_azure.clients.generation import LLAMA_STACK
from lightspeed_azure.clients.generations import installed
from lightspeed_azure.config import Configuration, LlamaStackConfiguration, load_configuration
from lightspeed_azure.enrichment.synthesis import source_name
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.keys import configured
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager

__all__ = ["Finding", "State", "as_data", "examine", "of_library_mode", "unreadable"]

type Working = Callable[[str], AbstractContextManager[None]]
"""Shows that something is under way while the block runs."""


def examine(
    config: Path,
    *,
    run_yaml: Path | None = None,
    inference: str | None = None,
    working: Working = nullcontext,  # type: ignore[assignment]
) -> Iterator[Finding]:
    """Yield the findings, as they come.

    Args:
        config: lightspeed-stack.yaml.
        run_yaml: the stack's own file, where the configuration does not name it.
        inference: a model to ask one question.
        working: shows that something is under way.

    Raises:
        InvalidConfigurationError: the configuration cannot work, so nothing else can be asked.
    """
    loaded = load_configuration(config)
    yield well(CONFIGURATION, f"{config} can be read, its keys are right")
    yield from of_identities(loaded)
    yield from of_run_yaml(loaded, run_yaml)
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
    """Yield the answers of Entra ID, the stack, and Azure.

    Args:
        config: the service's.
        manager: whose tokens are asked for.
        model: to ask one question, or None.
        working: shows that something is under way.
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
            about_stack = list(service.examine())
    if service and service.is_reachable:
        providers, endpoints = service.providers, service.endpoints
    for identity in manager.identities:
        endpoint = endpoints.get(identity.provider_id or "") or next(
            (url for url in endpoints.values() if url and identity.provider_id is None), None
        )
        with working("Asking Entra ID"):
            yield from list(of_authority(identity.config))
            yield from list(of_token(identity, endpoint, asked=model is not None))
    family = _family(stack, service)
    with working("Looking up keys"):
        yield from list(of_credentials(config, manager, providers, family))
        yield from list(of_resolvers())
    yield from about_stack
    yield from of_fields(providers, family, credentials)
    yield from of_provider_ids(config, providers)
    if config.proxy is not None:
        with working("Asking the issuer of the callers' tokens"):
            yield from list(of_callers(config.proxy))
    if stack is None:
        yield ill(STACK, "is not configured", "Add an ogx (or llama_stack) block with its url")
    elif stack.use_as_library_client:
        yield of_library_mode(stack, asked=model is not None)
    if model and stack and (manager.identities or credentials):
        with working(f"Asking {model}"):
            if service and not service.is_reachable:
                yield look(INFERENCE, f"{model} was not asked: the stack cannot be")
            elif service:
                yield from list(
                    of_service(service, manager, credentials, model, timeout=stack.timeout)
                )
            else:
                yield from list(of_library(stack, manager, credentials, model))
    credentials.close()


def _family(stack: LlamaStackConfiguration | None, service: StackService | None) -> str:
    """Return the family whose provider fields count; Llama Stack's when it is not known."""
    if service or stack is None:
        return ((service and service.family) or LLAMA_STACK).family
    try:
        return installed(stack)[0].family
    except InvalidConfigurationError:
        return LLAMA_STACK.family  # the missing package is another finding


def of_library_mode(stack: LlamaStackConfiguration, *, asked: bool = False) -> Finding:
    """Return whether a stack can run inside this process; a question that follows says the rest."""
    try:
        generation = installed(stack)[0]
    except InvalidConfigurationError as error:
        what, _, cure = str(error).partition("; ")
        return ill(STACK, what, cure)
    try:
        version = importlib.metadata.version(generation.stack.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        version = "of an unknown version"
    found = f"{generation.title} {version} inside the service, from {source_name(stack)}"
    if asked:
        return well(STACK, found)
    return look(STACK, f"{found}; not started here", "Ask it with --inference MODEL")


def unreadable(error: InvalidConfigurationError) -> Iterator[Finding]:
    """Yield the problems of a configuration that cannot work."""
    for problem in error.problems:
        yield of_problem(CONFIGURATION, problem)
