"""Library mode: what the stack does to the process that it runs in, and how to live with it."""

import asyncio
import io
import logging
import logging.config
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from families import FAMILY, OGX
from fastapi import FastAPI
from fastapi.testclient import TestClient
from integration_support import RUN_CONFIG, ask, entra_block

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.fastapi import ClientDep, lifespan

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CONFIG = LlamaStackConfiguration(use_as_library_client=True, library_client_config_path=RUN_CONFIG)
FIRST = 20


async def test_the_first_answers_are_all_stored(
    manager: AzureEntraIDManager,
    stack_environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a fresh database the first requests, all at once, find the stack's tables."""
    monkeypatch.setenv("SQLITE_STORE_DIR", str(tmp_path))
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(CONFIG)
    client = holder.get_client()
    await asyncio.gather(*(ask(client, f"number {number}") for number in range(FIRST)))
    stored = 0
    async with asyncio.timeout(60):
        while stored < FIRST:  # the stack stores an answer after it has returned it
            await asyncio.sleep(0.1)
            listed = await client.chat.completions.list(limit=100)
            stored = len(FAMILY.listed(getattr(listed, "data", listed)))
    assert stored == FIRST
    await holder.close()


async def test_a_model_is_called_provider_id_and_provider_model_id(
    manager: AzureEntraIDManager,
    stack_environment: None,
    tmp_path: Path,
    emulators: Emulators,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both families take that name. Where model_id differs, only OGX lists and takes that one, too."""
    monkeypatch.setenv("SQLITE_STORE_DIR", str(tmp_path))  # the stack keeps what was registered
    text = RUN_CONFIG.read_text()
    config = tmp_path / "run.yaml"
    config.write_text(text.replace("- model_id: gpt-4o-mini", "- model_id: chat"))
    assert config.read_text() != text
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(
        LlamaStackConfiguration(use_as_library_client=True, library_client_config_path=config)
    )
    client = holder.get_client()
    listed = [model.id for model in FAMILY.listed(await client.models.list())]
    assert "hello" in await ask(client, "hello", "azure/gpt-4o-mini")
    assert emulators.azure.requests.by_model == {"gpt-4o-mini": 1}
    if FAMILY is OGX:
        assert listed == ["azure/chat"]
        assert "hello" in await ask(client, "hello", "azure/chat")
        assert emulators.azure.requests.by_model == {"gpt-4o-mini": 2}
    else:
        assert listed == ["azure/gpt-4o-mini"]
        with pytest.raises(Exception, match="deployment for this resource does not exist"):
            await ask(client, "hello", "azure/chat")
        assert emulators.azure.requests.by_model == {"gpt-4o-mini": 1, "chat": 1}
    await holder.close()


def test_a_service_keeps_its_own_logging(
    emulators: Emulators, stack_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a service configures in its own lifespan holds; the stack has taken over before."""
    written = io.StringIO()
    own_logging: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"own": {"format": "own %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "own": {"class": "logging.StreamHandler", "formatter": "own", "stream": written}
        },
        "root": {"level": "WARNING", "handlers": ["own"]},
        "loggers": {"my_service": {"level": "INFO"}},
    }
    logger = logging.getLogger("my_service.endpoints")
    before = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.root, "handlers", [before])
    taken_over = []

    @asynccontextmanager
    async def own(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        taken_over.append(before not in logging.root.handlers)
        taken_over.append(not logger.isEnabledFor(logging.INFO))
        logging.config.dictConfig(own_logging)
        yield {}

    app = FastAPI(
        lifespan=lifespan(
            {
                "llama_stack": CONFIG.model_dump(mode="json", exclude_none=True),
                "azure_entra_id": entra_block(emulators),
            },
            inner=own,
        )
    )

    @app.post("/query")
    async def query(client: ClientDep) -> str:
        logger.info("asked")
        return await ask(client, "hello")

    with TestClient(app) as http:
        assert http.post("/query").status_code == 200
    assert taken_over == [True, True]
    assert "own INFO my_service.endpoints: asked\n" in written.getvalue()
