"""The example's files against the real Azure; opt-in: `make test-azure`.

Needs AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_API_BASE, and a deployment
named gpt-4o-mini, or the deployment that AZURE_DEPLOYMENT names.
"""

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from integration_support import load_example

from lightspeed_azure.demo.scenario import example_service

pytestmark = pytest.mark.azure

NEEDED = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_API_BASE")


def test_the_example_asks_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the example, as they are, answer a plain and a streamed question."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.fail(f"set {', '.join(missing)}: this test asks the real Azure")
    home = example_service(tmp_path / "service", library=True)
    monkeypatch.setenv("LLAMA_STACK_LOG_FORMAT", "json")
    model = f"azure/{os.environ.get('AZURE_DEPLOYMENT', 'gpt-4o-mini')}"
    question = {"query": "Answer with one word: which colour has the sky?", "model": model}
    with TestClient(load_example(home, monkeypatch)) as http:
        answer = http.post("/query", json=question)
        assert answer.status_code == 200, answer.text
        assert answer.json()["response"]
        streamed = http.post("/query/stream", json=question)
        assert streamed.status_code == 200, streamed.text
        assert streamed.text.rstrip().endswith("data: [DONE]")
