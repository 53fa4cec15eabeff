"""No token and no secret shows up where people or machines read: the canary.

Every feature that touches a token adds its objects, errors and texts here.
"""

import pickle

import pytest
from canary import Canary
from fastapi import FastAPI
from fastapi.testclient import TestClient
from integration_support import ask, ask_streaming, entra_block

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.emulators import Emulators, Fault
from lightspeed_azure.fastapi import ClientDep, lifespan

pytestmark = pytest.mark.integration


async def test_questions_renewals_and_refusals(
    holder: AsyncLlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    canary: Canary,
) -> None:
    """Plain and streaming questions, a shown token, a refusal and a renewal leave no trace."""
    client = holder.get_client()
    await ask(client, "hello")
    canary.watch(first=manager.access_token.get_secret_value())
    shown = await holder.update_azure_token()
    await ask_streaming(shown, "hello")
    emulators.azure.revoke_all_issued_before_now()
    await ask(client, "hello again")
    canary.watch(second=manager.access_token.get_secret_value())
    assert canary.secrets["first"] != canary.secrets["second"]
    identity = manager.identity()
    canary.read(
        manager=manager,
        identities=manager.identities,
        config=identity.config,
        config_dump=identity.config.model_dump(),
        cache=identity.cache,
        cache_fields=vars(identity.cache),
        token=identity.cache.latest(),
        status=manager.status(),
        access_token=manager.access_token,
        holder=holder,
        client=client,
        shown=shown,
    )
    canary.texts["pickled status"] = repr(pickle.dumps(manager.status()))
    for name, thing in {"identity": identity, "cache": identity.cache, "manager": manager}.items():
        try:
            canary.texts[f"pickled {name}"] = repr(pickle.dumps(thing))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            canary.read_error(f"pickling {name}", error)


async def test_errors_of_entra_id(
    holder: AsyncLlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    canary: Canary,
) -> None:
    """Whatever Entra ID answers, the error and its traceback hold no secret."""
    for name, fault in {
        "throttled": Fault.status(429, retry_after=1),
        "down": Fault.status(503),
        "reset": Fault.reset(),
        "truncated": Fault.truncated(),
        "not_json": Fault.not_json(),
    }.items():
        emulators.entra.clear_faults()
        emulators.entra.fault(fault)
        fresh = AzureEntraIDManager.isolated(entra_block(emulators))
        with AzureEntraIDManager.replaced(fresh), pytest.raises(Exception) as caught:  # noqa: PT011
            await fresh.aget_token()
        fresh.close()
        canary.read_error(name, caught.value)
        canary.texts[f"pickled {name}"] = repr(pickle.dumps(caught.value))
        canary.read(**{f"status {name}": fresh.status()})
    emulators.entra.clear_faults()
    block = entra_block(emulators) | {"client_secret": "wrong-canary-secret"}
    canary.watch(wrong_secret="wrong-canary-secret")
    refused = AzureEntraIDManager.isolated(block)
    with pytest.raises(Exception, match="7000215") as rejected:
        await refused.aget_token()
    refused.close()
    canary.read_error("rejected", rejected.value)
    await ask(holder.get_client(), "hello")
    canary.watch(token=manager.access_token.get_secret_value())


async def test_a_refusal_that_stays(
    holder: AsyncLlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    canary: Canary,
) -> None:
    """The stack's own error, with our frames' locals, holds no token."""
    emulators.azure.audiences = ["https://another.example"]
    with pytest.raises(Exception, match="401") as caught:
        await ask(holder.get_client(), "refused")
    canary.watch(token=manager.access_token.get_secret_value())
    canary.read_error("refusal", caught.value)


def test_answers_of_a_service(emulators: Emulators, stack_url: str, canary: Canary) -> None:
    """Neither a problem document nor a probe's answer holds a secret."""
    block = entra_block(emulators) | {"client_secret": "wrong-canary-secret"}
    canary.watch(wrong_secret="wrong-canary-secret")
    app = FastAPI(lifespan=lifespan({"llama_stack": {"url": stack_url}, "azure_entra_id": block}))

    @app.post("/query")
    async def query(client: ClientDep) -> str:
        return await ask(client, "hello")

    with TestClient(app) as http:
        answer = http.post("/query")
        assert answer.status_code == 503
        assert "7000215" in answer.text
        canary.texts["problem"] = f"{answer.text} {answer.headers!r}"
