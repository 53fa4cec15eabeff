"""What the integration tests share: questions, and the configuration of an identity."""

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from lightspeed_azure.emulators import Emulators

MODEL = "azure/gpt-4o-mini"

EXAMPLE = Path(__file__).parents[2] / "examples" / "service"

RUN_CONFIG = EXAMPLE / "run.yaml"


def entra_block(emulators: Emulators) -> dict[str, object]:
    """Return the azure_entra_id block for the emulator's default application."""
    return {
        "tenant_id": emulators.entra.tenant_id,
        "client_id": emulators.entra.application.client_id,
        "client_secret": emulators.entra.application.client_secret,
        "authority_host": emulators.entra.authority,
        "ca_bundle": emulators.ca_bundle,
    }


def load_example(home: Path, patch: pytest.MonkeyPatch) -> FastAPI:
    """Return the example service's application, as uvicorn would load it in its folder."""
    patch.chdir(home)
    spec = importlib.util.spec_from_file_location("example_app", home / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, "example_app", module)
    spec.loader.exec_module(module)
    app: FastAPI = module.app
    return app


async def ask(client: Any, question: str, model: str = MODEL) -> str:
    """Ask a plain question."""
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )
    return str(answer.choices[0].message.content)


async def ask_streaming(client: Any, question: str, model: str = MODEL) -> str:
    """Ask a question and put its streamed answer together."""
    chunks = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True
    )
    return "".join(
        [choice.delta.content or "" async for chunk in chunks for choice in chunk.choices]
    )


def broken_run_config() -> Path:
    """Return a run.yaml that no stack starts from."""
    path = Path(tempfile.mkdtemp()) / "run.yaml"
    path.write_text(
        "version: 2\napis: [inference]\nproviders:\n  inference:\n    - provider_id: x\n"
    )
    return path


def two_providers(folder: Path, names: Sequence[str]) -> Path:
    """Return the configuration of a stack with these Azure providers, one model each."""
    text = RUN_CONFIG.read_text()
    for start, end in (
        ("    - provider_id: azure", "  responses:\n"),
        ("    - model_id:", "storage:\n"),
    ):
        one = text[text.index(start) : text.index(end)]
        both = [one.replace("provider_id: azure", f"provider_id: {name}") for name in names]
        text = text.replace(one, "".join(both))
    file = folder / "two.yaml"
    file.write_text(text)
    return file
