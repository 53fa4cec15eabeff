"""Asks a model one real question, and locates the fault when there is no answer."""

import asyncio
import contextlib
import io
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import httpx

from lightspeed_azure.check.claims import ROLE
from lightspeed_azure.check.finding import Finding, State, failed, from_problem, ok, warning
from lightspeed_azure.check.stack import StackService
from lightspeed_azure.clients.generation import LLAMA_STACK
from lightspeed_azure.config import LlamaStackConfiguration
from lightspeed_azure.errors import LightspeedAzureError, TokenError
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.provider_data import encode
from lightspeed_azure.tokens.manager import AzureEntraIDManager

INFERENCE = "inference"

QUESTION = "Answer with the one word: ready"

_OWN_KEY = (
    "Remove api_key from the provider in run.yaml (lightspeed-azure enrich --drop-api-key), and see "
    "what drops the header on the way to the stack"
)

_ENDPOINT = "https://<resource>.openai.azure.com/openai/v1"

_REFUSALS: Sequence[tuple[int, str, str, str]] = (
    (
        400,
        "custom subdomain",
        "it takes no token at a regional host name",
        f"Set the provider's base_url to the resource's own host, {_ENDPOINT}",
    ),
    (
        401,
        r"PermissionDenied|lacks the required data action",
        "it knows the identity, which has no role on this resource",
        f"Assign the role {ROLE!r} on the resource; it takes effect after some minutes",
    ),
    (
        401,
        "invalid subscription key",
        "it got an API key of the stack's instead of the token, and refuses it",
        _OWN_KEY,
    ),
    *(
        (
            code,
            "does not match resource",
            "the token is from another tenant than the resource",
            "Set tenant_id to the tenant of the resource",
        )
        for code in (400, 401)
    ),
    (
        401,
        "",
        "it refuses the token",
        "Compare audience and tenant above with the resource's; look at custom subdomain and scope",
    ),
    (
        403,
        r"AuthenticationTypeDisabled|[Kk]ey based authentication",
        "it got an API key of the stack's instead of the token, and takes no keys",
        _OWN_KEY,
    ),
    (
        403,
        r"Virtual Network|[Ff]irewall|[Pp]ublic access|private endpoint",
        "the resource's network rules keep the stack out",
        "Allow the stack's network on the resource, or use its private endpoint",
    ),
    (
        403,
        "",
        "it lets the identity in, but not to this resource",
        f"Assign the role {ROLE!r} on the resource (it takes minutes to count), or open its network",
    ),
    (
        404,
        "Resource not found",
        "it has nothing at this address",
        f"Set the provider's base_url to {_ENDPOINT}",
    ),
    (
        404,
        "",
        "it has no such deployment",
        "Correct provider_model_id of the model in run.yaml: it is the deployment's name",
    ),
    (
        429,
        "",
        "it has too many requests for this deployment",
        "Wait, or raise the deployment's quota (tokens per minute)",
    ),
    (
        400,
        "",
        "it does not accept the request",
        "Look into the stack's log for Azure's own words",
    ),
    *(
        (code, "", "it is out of order", "Wait, and look at the status page of Azure")
        for code in (500, 502, 503, 504)
    ),
)
"""Status, pattern in Azure's text, what it means, and the cure; the first that fits counts.

Texts: https://learn.microsoft.com/azure/ai-services/authentication and
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/managed-identity.
"""

_SLOW = 3.0
"""Seconds: a refusal that takes this long was probably rendered as a traceback by the stack."""


def check_service(
    stack: StackService,
    manager: AzureEntraIDManager,
    credentials: ProviderCredentials,
    model: str,
    *,
    timeout: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Finding]:
    """Ask a stack that runs as a server.

    Args:
        stack: the stack, after its `check`.
        manager: supplies the token.
        credentials: the keys of other providers.
        model: as the stack names it.
        timeout: seconds.
        monotonic: returns seconds.
    """
    headers, keyed, finding = _headers(stack, manager, credentials, model)
    if finding is not None:
        yield finding
        if finding.state is State.FAILED:
            return
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    started = monotonic()
    try:
        with stack.client(timeout=timeout) as client:
            answer = client.post("/v1/chat/completions", json=body, headers=headers)
    except httpx.TransportError as error:
        late = isinstance(error, httpx.TimeoutException)
        what = f"the stack: no answer within {timeout:.0f} s" if late else "the stack broke off"
        yield failed(INFERENCE, what, "Look into the stack's log, and whether it reaches Azure")
        return
    seconds = monotonic() - started
    if answer.is_success:
        yield ok(INFERENCE, f"{model} answered in {seconds:.1f} s")
    else:
        finding = diagnose(answer.status_code, answer.text, model)
        if keyed and "Error code: 401" in answer.text:
            what = f"{keyed} (401): it refuses the key"
            finding = failed(INFERENCE, what, "Compare the key with the provider's")
        yield finding
        if stack.family and seconds > _SLOW and answer.status_code in (400, 401):
            found = f"the stack took {seconds:.0f} s to pass this refusal on"
            cure = (
                f"Start it with {stack.family.log_variable}=json: drawing a traceback holds it up"
            )
            yield warning(INFERENCE, found, cure)


def _headers(
    stack: StackService,
    manager: AzureEntraIDManager,
    credentials: ProviderCredentials,
    model: str,
) -> tuple[dict[str, str], str, Finding | None]:
    """Return the headers of the question, the provider whose key they carry, and a finding if any."""
    generation = stack.family or LLAMA_STACK
    name = generation.header
    provider = stack.provider_of(model) or ""
    endpoint = stack.endpoints.get(provider)
    is_azure = provider in stack.endpoints
    try:
        kind = stack.providers.get(provider)
        keys = kind and credentials.keys(provider, kind, endpoint, generation.family)
        if keys and keys.replace(manager.find_identity(provider) if is_azure else None):
            return {name: encode(asyncio.run(keys.data()))}, provider, None
    except LightspeedAzureError as error:
        return {}, "", from_problem(INFERENCE, f"our key: {error}")
    if not is_azure:
        what = f"{model} is not served by an Azure provider, so no token is sent"
        return {}, "", warning(INFERENCE, what)
    try:
        identity = manager.identity(provider)
        return {name: identity.header(endpoint or "https://unknown.invalid")[1]}, "", None
    except TokenError as error:
        return {}, "", failed(INFERENCE, f"our token: {error.message}", error.cure)
    except LightspeedAzureError as error:
        return {}, "", from_problem(INFERENCE, f"our token: {error}")


def check_library(
    config: LlamaStackConfiguration,
    manager: AzureEntraIDManager,
    credentials: ProviderCredentials,
    model: str,
) -> Iterator[Finding]:
    """Ask a stack inside this process, which is started for the question."""
    started = time.monotonic()

    def elapsed() -> float:
        return time.monotonic() - started

    # The stack prints its whole configuration, and its log.
    verbose = logging.getLogger("lightspeed_azure").isEnabledFor(logging.INFO)
    shown = sys.stderr if verbose else io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        finding = asyncio.run(_in_process(config, manager, credentials, model, elapsed))
    yield finding


async def _in_process(
    config: LlamaStackConfiguration,
    manager: AzureEntraIDManager,
    credentials: ProviderCredentials,
    model: str,
    elapsed: Callable[[], float],
) -> Finding:
    from lightspeed_azure.clients.holder import AsyncLlamaStackClientHolder  # noqa: PLC0415 - slow

    entries = [source.credential for source in credentials.sources]
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager, provider_credentials=entries)
    try:
        await holder.load(config)
        ready = elapsed()
        messages = [{"role": "user", "content": QUESTION}]
        client = holder.get_client()
        await client.chat.completions.create(model=model, messages=messages)
    except TokenError as error:
        return failed(INFERENCE, f"our token: {error.message}", error.cure)
    except LightspeedAzureError as error:
        return from_problem(INFERENCE, str(error))
    except Exception as error:  # noqa: BLE001 - a stack inside the process raises anything
        status = getattr(error, "status_code", None)
        return diagnose(status if isinstance(status, int) else 500, str(error), model)
    else:
        return ok(INFERENCE, f"{model} answered in {elapsed() - ready:.1f} s")
    finally:
        await holder.close()


def diagnose(status: int, text: str, model: str) -> Finding:
    """Return the finding for an error response; its text is inspected but never shown.

    The stack passes Azure's errors on with the prefix "Error code: …".
    """
    for code, pattern, what, cure in _REFUSALS:
        if f"Error code: {code}" in text and re.search(pattern, text):
            return failed(INFERENCE, f"Azure ({code}): {what}", cure)
    if "API key not provided" in text:
        return failed(
            INFERENCE,
            "the stack: it read no token from the header",
            "Check that the provider is remote::azure, and that no proxy drops the header",
        )
    if status == 404 or "not found" in text:
        cure = f"Register {model} in run.yaml, or name it <provider_id>/<deployment>"
        return failed(INFERENCE, f"the stack ({status}): it does not know {model}", cure)
    if status in (401, 403):
        cure = "Check llama_stack.api_key and the stack's access policies"
        return failed(INFERENCE, f"the stack ({status}): it refuses the request itself", cure)
    return failed(INFERENCE, f"the stack ({status}): it failed", "Look into the stack's log")
