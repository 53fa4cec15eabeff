"""`lightspeed-azure check` while parts are down or wrong: each answer stands by itself."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from check_support import check, run, states, write_configuration

from lightspeed_azure.check.authority import of_authority
from lightspeed_azure.check.claims import audience_for
from lightspeed_azure.check.inference import located
from lightspeed_azure.check.stack import VECTOR_STORES, StackService
from lightspeed_azure.config import AzureEntraIdConfiguration, LlamaStackConfiguration
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.emulators import Emulators


@pytest.fixture
def configuration(tmp_path: Path, azure_environment: dict[str, str]) -> Path:
    """The example's configuration; the stack that it names does not run."""
    return write_configuration(tmp_path, url=f"http://127.0.0.1:{free_port()}")


def test_a_stack_that_is_down_leaves_the_other_answers(configuration: Path) -> None:
    """Token, clock and files are answered; the stack has the only cross; exit code 1."""
    code, findings = check(configuration, "--inference", "azure/gpt-4o-mini")
    assert code == 1
    found = states(findings)
    assert {question for question, state in found.items() if state == "ill"} == {"stack"}
    assert found["token"] == found["clock"] == found["authority"] == found["audience"] == "well"
    assert "was not asked" in findings["inference"][0]["found"]


def test_entra_id_that_is_down_leaves_the_other_answers(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authority and token have a cross, each with its cure."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://localhost:{free_port()}")
    code, findings = check(configuration)
    assert code == 1
    assert states(findings)["authority"] == states(findings)["token"] == "ill"
    assert "authority_host" in findings["authority"][0]["cure"]
    assert states(findings)["configuration"] == "well"


def test_a_certificate_that_is_not_trusted(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the private CA the cure is ca_bundle."""
    monkeypatch.delenv("AZURE_AUTHORITY_CA_BUNDLE")
    _, findings = check(configuration)
    assert "not trusted" in findings["authority"][0]["found"]
    assert "ca_bundle" in findings["authority"][0]["cure"]


def test_a_secret_that_is_refused(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entra ID's own code, the cure, and not the secret."""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong-canary-secret")
    result = run("check", "-c", str(configuration))
    assert result.exit_code == 1
    assert "AADSTS7000215" in result.output
    assert "✗ token" in result.output
    assert "→ Give the secret's value" in result.output
    assert "wrong-canary-secret" not in result.output


def test_a_configuration_that_cannot_work_is_2(tmp_path: Path) -> None:
    """Every problem has a line of its own, with its line in the file and the cure below it."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("azure_entra_id: {tenant: x}\nllama_stack: {}\n")
    result = run("check", "-c", str(file))
    assert result.exit_code == 2
    assert (
        f"✗ configuration   {file}:1: azure_entra_id.tenant: there is no such key" in result.output
    )
    assert "→ Did you mean tenant_id?" in result.output
    assert json.loads(run("check", "-c", str(file), "--json").stdout)["well"] is False
    assert run("check", "-c", str(tmp_path / "missing.yaml")).exit_code == 2


def test_without_entra_id_that_is_the_finding(tmp_path: Path) -> None:
    """No block: the rest is still asked."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(f"llama_stack: {{url: 'http://127.0.0.1:{free_port()}'}}\n")
    code, findings = check(file)
    assert code == 1
    assert states(findings)["credential"] == "ill"


def test_a_run_yaml_that_is_not_enriched(configuration: Path) -> None:
    """In service mode the change is to be made, with the command; the problem has its line."""
    file = configuration.with_name("run.yaml")
    file.write_text(
        file.read_text().replace("        base_url", "        api_key: sk-1\n        base_url")
    )
    _, findings = check(configuration)
    texts = " ".join(finding["found"] for finding in findings["run.yaml"])
    assert f"{file}:11: providers.inference[0].config.api_key: is a static key" in texts
    assert "sk-1" not in texts
    assert any("lightspeed-azure enrich" in finding["cure"] for finding in findings["run.yaml"])
    file.write_text("providers: x\n")
    assert states(check(configuration)[1])["run.yaml"] == "ill"


@pytest.mark.parametrize(
    ("offset", "state"), [(0, "well"), (30, "well"), (120, "look"), (-120, "look"), (400, "ill")]
)
def test_the_clock_is_compared_with_entra_ids(
    azure_emulators: Emulators, azure_environment: dict[str, str], offset: float, state: str
) -> None:
    """Some seconds do not matter; over five minutes nothing works."""
    block = AzureEntraIdConfiguration()
    findings = list(of_authority(block, clock=lambda: time.time() + offset))
    assert [finding.state for finding in findings] == ["well", state]
    if offset > 60:
        assert f"{offset:.0f} s ahead" in findings[1].found


@pytest.mark.parametrize(
    ("status", "text", "whose"),
    [
        (401, "Error code: 401 - Access token is missing, invalid", "Azure (401)"),
        (
            401,
            "Error code: 401 - {'error': {'code': 'PermissionDenied', 'message': 'x'}}",
            "Azure (401): the identity has no role on this resource",
        ),
        (401, "Invalid API key", "the stack (401)"),
        (403, "Error code: 403 - ", "Azure (403)"),
        (403, "Access denied", "the stack (403)"),
        (404, "Error code: 404 - {'code': 'DeploymentNotFound'}", "Azure (404)"),
        (404, "Model 'x' not found. Use 'client.models.list()'", "the stack (404)"),
        (429, "Error code: 429 - ", "Azure (429)"),
        (
            400,
            "API key not provided. Please provide a valid API key",
            "the stack: it read no token",
        ),
        (500, "An unexpected error occurred", "the stack (500)"),
    ],
)
def test_a_fault_is_located(status: int, text: str, whose: str) -> None:
    """The same status means another thing from Azure than from the stack itself."""
    finding = located(status, text, "azure/m")
    assert finding.state == "ill"
    assert finding.found.startswith(whose)
    assert finding.cure


@pytest.mark.parametrize(
    ("endpoint", "audience"),
    [
        ("https://x.openai.azure.com/openai/v1", "https://cognitiveservices.azure.com"),
        ("https://x.openai.azure.us/openai/v1", "https://cognitiveservices.azure.us"),
        ("https://x.openai.azure.cn/openai/v1", "https://cognitiveservices.azure.cn"),
        ("https://azure.com.example.org/openai/v1", None),
        ("http://127.0.0.1/openai/v1", None),
    ],
)
def test_the_audience_follows_from_the_endpoint(endpoint: str, audience: str | None) -> None:
    """Each cloud has its own; a host of nobody's has none that could be known."""
    assert audience_for(endpoint) == audience


def test_an_audience_that_the_endpoint_does_not_take(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token for another cloud has a cross, and the scope to set."""
    monkeypatch.setenv("AZURE_API_BASE", "https://x.openai.azure.us/openai/v1")
    _, findings = check(configuration)
    assert states(findings)["audience"] == "ill"
    assert "https://cognitiveservices.azure.us/.default" in findings["audience"][0]["cure"]


class Strange(BaseHTTPRequestHandler):
    """Answers /v1/version like a stack of a series that no client here fits, and asks for a key."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/v1/version":
            known = self.headers.get("X-LlamaStack-Client-Version")
            self._answer(426 if known else 200, b'{"version": "0.1.9"}')
        elif self.path == "/v1/health":
            self._answer(200, b'{"status": "OK"}')
        else:
            self._answer(401, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def strange_url() -> Iterator[str]:
    """A server that is no use."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_versions_that_do_not_fit_and_a_key_that_is_missing(
    tmp_path: Path, azure_environment: dict[str, str], strange_url: str
) -> None:
    """The version to install and the key to set are named."""
    _, findings = check(write_configuration(tmp_path, url=strange_url))
    assert "0.1.9" in findings["versions"][0]["found"]
    assert "llama-stack-client==0.1.*" in findings["versions"][0]["cure"]
    assert "llama_stack.api_key" in findings["access"][0]["cure"]
    assert {states(findings)[name] for name in ("versions", "access")} == {"ill"}


class Stack(BaseHTTPRequestHandler):
    """A stack with vector stores, whose embedding model is a provider's."""

    embedding = "azure"

    def do_GET(self) -> None:
        """Say what it serves."""
        models = [
            {"id": "azure/chat", "custom_metadata": {"provider_id": "azure", "model_type": "llm"}},
            {
                "id": f"{self.embedding}/embed",
                "custom_metadata": {"provider_id": self.embedding, "model_type": "embedding"},
            },
        ]
        azure = {"provider_id": "azure", "provider_type": "remote::azure"}
        providers = [
            {**azure, "api": "inference", "config": {"base_url": "https://x/openai/v1"}},
            {"provider_id": "faiss", "provider_type": "inline::faiss", "api": "vector_io"},
        ]
        answers = {
            "/v1/version": {"version": "0.7.3"},
            "/v1/health": {"status": "OK"},
            "/v1/models": {"data": models},
            "/v1/providers": {"data": providers},
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.mark.parametrize("embedding", ["azure", "sentence-transformers"])
def test_vector_stores_with_embeddings_of_azure(
    embedding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get no token, which is said; with embeddings of another provider nothing is."""
    monkeypatch.setattr(Stack, "embedding", embedding)
    with ThreadingHTTPServer(("127.0.0.1", 0), Stack) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = LlamaStackConfiguration(url=f"http://127.0.0.1:{server.server_address[1]}")
        found = [each for each in StackService(config).examine() if each.question == VECTOR_STORES]
        server.shutdown()
    assert [(each.found, each.cure) for each in found] == (
        [
            (
                "embeddings of azure/embed get no token, so Azure refuses them",
                "Use an embedding model of another provider for vector stores",
            )
        ]
        if embedding == "azure"
        else []
    )
