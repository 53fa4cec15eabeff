"""`lightspeed-azure check` while parts are down or wrong: each answer stands by itself."""

import importlib.metadata
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from check_support import check, run, states, write_configuration

from lightspeed_azure.check.claims import audience_for
from lightspeed_azure.check.entra_id import check_authority
from lightspeed_azure.check.inference import check_service, diagnose
from lightspeed_azure.check.stack import VECTOR_STORES, StackService
from lightspeed_azure.clients.generation import LLAMA_STACK
from lightspeed_azure.config import (
    AzureEntraIdConfiguration,
    LlamaStackConfiguration,
    load_configuration,
)
from lightspeed_azure.demo.processes import free_port
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.tokens.manager import AzureEntraIDManager


@pytest.fixture
def configuration(tmp_path: Path, azure_environment: dict[str, str]) -> Path:
    """The example's configuration; the stack that it names does not run."""
    return write_configuration(tmp_path, url=f"http://127.0.0.1:{free_port()}")


def test_a_stack_that_is_down_leaves_the_other_answers(configuration: Path) -> None:
    """Token, clock and files are answered; the stack has the only cross; exit code 1."""
    code, findings = check(configuration, "--inference", "azure/gpt-4o-mini")
    assert code == 1
    found = states(findings)
    assert {question for question, state in found.items() if state == "failed"} == {"stack"}
    assert found["token"] == found["clock"] == found["authority"] == found["audience"] == "ok"
    assert "was not asked" in findings["inference"][0]["found"]
    (stack,) = findings["stack"]
    url = load_configuration(configuration).llama_stack
    assert url is not None
    assert stack["found"] == f"{url.url}: connection refused"
    assert stack["cure"] == "Check the host and port in llama_stack.url, and that the service runs"


def test_entra_id_that_is_down_leaves_the_other_answers(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authority and token have a cross, each with its cure."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://localhost:{free_port()}")
    code, findings = check(configuration)
    assert code == 1
    assert states(findings)["authority"] == states(findings)["token"] == "failed"
    assert "authority_host" in findings["authority"][0]["cure"]
    assert states(findings)["configuration"] == "ok"


def test_a_certificate_that_is_not_trusted(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the private CA the cure is ca_bundle."""
    monkeypatch.delenv("AZURE_AUTHORITY_CA_BUNDLE")
    _, findings = check(configuration)
    assert "not trusted" in findings["authority"][0]["found"]
    assert "ca_bundle" in findings["authority"][0]["cure"]


def test_a_ca_bundle_that_is_missing(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names no file is not reported as a failure of the network."""
    monkeypatch.delenv("AZURE_AUTHORITY_CA_BUNDLE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    (finding,) = check(configuration)[1]["authority"]
    assert (finding["state"], finding["found"], finding["cure"]) == (
        "failed",
        "the CA bundle cannot be read",
        "Check ca_bundle, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
    )


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
    assert json.loads(run("check", "-c", str(file), "--json").stdout)["ok"] is False
    assert run("check", "-c", str(tmp_path / "missing.yaml")).exit_code == 2


def test_without_entra_id_that_is_the_finding(tmp_path: Path) -> None:
    """No block: the rest is still asked."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(f"llama_stack: {{url: 'http://127.0.0.1:{free_port()}'}}\n")
    code, findings = check(file)
    assert code == 1
    assert states(findings)["credential"] == "failed"


def test_a_run_yaml_that_is_not_enriched(configuration: Path) -> None:
    """In service mode the change is to be made, with the command; the problem has its line."""
    file = configuration.with_name("run.yaml")
    file.write_text(
        file.read_text().replace("        base_url", "        api_key: sk-1\n        base_url")
    )
    _, findings = check(configuration)
    texts = " ".join(finding["found"] for finding in findings["run.yaml"])
    assert f"{file}:12: providers.inference[0].config.api_key: is a static key" in texts
    assert "sk-1" not in texts
    assert any("lightspeed-azure enrich" in finding["cure"] for finding in findings["run.yaml"])
    file.write_text("providers: x\n")
    assert states(check(configuration)[1])["run.yaml"] == "failed"


@pytest.mark.parametrize(
    ("offset", "state"),
    [(0, "ok"), (30, "ok"), (120, "warning"), (-120, "warning"), (400, "failed")],
)
def test_the_clock_is_compared_with_entra_ids(
    azure_emulators: Emulators, azure_environment: dict[str, str], offset: float, state: str
) -> None:
    """Some seconds do not matter; over five minutes nothing works."""
    block = AzureEntraIdConfiguration()
    findings = list(check_authority(block, clock=lambda: time.time() + offset))
    assert [finding.state for finding in findings] == ["ok", state]
    if offset > 60:
        assert f"{offset:.0f} s ahead" in findings[1].found


ROLE = "Assign the role 'Cognitive Services OpenAI User' on the resource"
OWN_KEY = (
    "Remove api_key from the provider in run.yaml (lightspeed-azure enrich --drop-api-key), and see "
    "what drops the header on the way to the stack"
)
ENDPOINT = "https://<resource>.openai.azure.com/openai/v1"

LOCATED = [
    (
        400,
        (
            "Error code: 400 - {'error': {'code': 'BadRequest', 'message': 'Please provide a custom "
            "subdomain for token authentication, otherwise API key is required.'}}"
        ),
        "Azure (400): it takes no token at a regional host name",
        f"Set the provider's base_url to the resource's own host, {ENDPOINT}",
    ),
    (
        400,
        "Error code: 400 - {'error': {'message': 'Token tenant a does not match resource tenant.'}}",
        "Azure (400): the token is from another tenant than the resource",
        "Set tenant_id to the tenant of the resource",
    ),
    (
        400,
        "Error code: 400 - {'error': {'code': 'content_filter'}}",
        "Azure (400): it does not accept the request",
        "Look into the stack's log for Azure's own words",
    ),
    (
        401,
        (
            "Error code: 401 - Unauthorized. Access token is missing, invalid, audience is incorrect, "
            "or have expired."
        ),
        "Azure (401): it refuses the token",
        "Compare audience and tenant above with the resource's; look at custom subdomain and scope",
    ),
    (
        401,
        (
            "Error code: 401 - {'error': {'code': 'PermissionDenied', 'message': 'The principal `p` "
            "lacks the required data action `d` to perform `o` operation.'}}"
        ),
        "Azure (401): it knows the identity, which has no role on this resource",
        f"{ROLE}; it takes effect after some minutes",
    ),
    (
        401,
        (
            "Error code: 401 - {'error': {'code': '401', 'message': 'Access denied due to invalid "
            "subscription key or wrong API endpoint.'}}"
        ),
        "Azure (401): it got an API key of the stack's instead of the token, and refuses it",
        OWN_KEY,
    ),
    (
        401,
        "Invalid API key",
        "the stack (401): it refuses the request itself",
        "Check llama_stack.api_key and the stack's access policies",
    ),
    (
        403,
        (
            "Error code: 403 - {'error': {'code': 'AuthenticationTypeDisabled', 'message': 'Key based "
            "authentication is disabled for this resource.'}}"
        ),
        "Azure (403): it got an API key of the stack's instead of the token, and takes no keys",
        OWN_KEY,
    ),
    (
        403,
        (
            "Error code: 403 - {'error': {'code': '403', 'message': 'Access denied due to Virtual "
            "Network/Firewall rules.'}}"
        ),
        "Azure (403): the resource's network rules keep the stack out",
        "Allow the stack's network on the resource, or use its private endpoint",
    ),
    (
        403,
        "Error code: 403 - ",
        "Azure (403): it lets the identity in, but not to this resource",
        f"{ROLE} (it takes minutes to count), or open its network",
    ),
    (
        403,
        "Access denied",
        "the stack (403): it refuses the request itself",
        "Check llama_stack.api_key and the stack's access policies",
    ),
    (
        404,
        "Error code: 404 - {'error': {'code': 'DeploymentNotFound'}}",
        "Azure (404): it has no such deployment",
        "Correct provider_model_id of the model in run.yaml: it is the deployment's name",
    ),
    (
        404,
        "Error code: 404 - {'error': {'code': '404', 'message': 'Resource not found'}}",
        "Azure (404): it has nothing at this address",
        f"Set the provider's base_url to {ENDPOINT}",
    ),
    (
        404,
        "Model 'x' not found. Use 'client.models.list()'",
        "the stack (404): it does not know azure/m",
        "Register azure/m in run.yaml, or name it <provider_id>/<deployment>",
    ),
    (
        429,
        "Error code: 429 - ",
        "Azure (429): it has too many requests for this deployment",
        "Wait, or raise the deployment's quota (tokens per minute)",
    ),
    (
        500,
        "Error code: 503 - {'error': {'code': 'ServiceUnavailable'}}",
        "Azure (503): it is out of order",
        "Wait, and look at the status page of Azure",
    ),
    (
        400,
        "API key not provided. Please provide a valid API key",
        "the stack: it read no token from the header",
        "Check that the provider is remote::azure, and that no proxy drops the header",
    ),
    (
        500,
        "An unexpected error occurred",
        "the stack (500): it failed",
        "Look into the stack's log",
    ),
]


@pytest.mark.parametrize(("status", "text", "found", "cure"), LOCATED)
def test_a_fault_is_located(status: int, text: str, found: str, cure: str) -> None:
    """The same status means another thing from Azure than from the stack itself, with its cure."""
    finding = diagnose(status, text, "azure/m")
    assert (finding.state, finding.found, finding.cure) == ("failed", found, cure)


@pytest.mark.parametrize(("seconds", "status", "advised"), [(7.0, 401, True), (0.2, 401, False)])
def test_the_log_format_is_advised_where_a_refusal_was_slow(
    seconds: float, status: int, *, advised: bool
) -> None:
    """A stack that logs JSON refuses at once, so nothing is advised."""
    answer = httpx.Response(status, text="Error code: 401 - ")
    stack = StackService(LlamaStackConfiguration(url="http://127.0.0.1:1"))
    stack.family = LLAMA_STACK
    stack.client = lambda **_: httpx.Client(  # type: ignore[method-assign]
        base_url=stack.url, transport=httpx.MockTransport(lambda _: answer)
    )
    times = iter([0.0, seconds])
    findings = list(
        check_service(
            stack,
            AzureEntraIDManager.isolated(),
            ProviderCredentials(),
            "azure/m",
            timeout=1.0,
            monotonic=lambda: next(times),
        )
    )
    said = [(each.state, each.found, each.cure) for each in findings[2:]]
    assert said == (
        [
            (
                "warning",
                "the stack took 7 s to pass this refusal on",
                "Start it with LLAMA_STACK_LOG_FORMAT=json: drawing a traceback holds it up",
            )
        ]
        if advised
        else []
    )


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
    assert states(findings)["audience"] == "failed"
    assert "https://cognitiveservices.azure.us/.default" in findings["audience"][0]["cure"]


def test_a_client_that_we_allow_is_what_to_install(
    tmp_path: Path, azure_environment: dict[str, str]
) -> None:
    """The twin: a server of a series that our own requirement allows."""
    with served(partial(Strange, version="0.9.1")) as url:
        _, findings = check(write_configuration(tmp_path, url=url))
    series = ".".join(importlib.metadata.version("llama-stack-client").split(".")[:2])
    assert findings["versions"][0]["cure"] == (
        f"pip install 'llama-stack-client==0.9.*', or run a server of series {series}"
    )


class Strange(BaseHTTPRequestHandler):
    """Answers /v1/version like a stack of a series that no client here fits, and asks for a key."""

    def __init__(self, *connection: Any, version: str) -> None:
        self.version = version
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/v1/version":
            known = self.headers.get("X-LlamaStack-Client-Version")
            self._answer(426 if known else 200, f'{{"version": "{self.version}"}}'.encode())
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


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on the loopback interface until the block ends; give the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_versions_that_do_not_fit_and_a_key_that_is_missing(
    tmp_path: Path, azure_environment: dict[str, str]
) -> None:
    """The server is too old for any client of ours; the key to set is named."""
    with served(partial(Strange, version="0.1.9")) as url:
        _, findings = check(write_configuration(tmp_path, url=url))
    client = importlib.metadata.version("llama-stack-client")
    series = ".".join(client.split(".")[:2])
    assert findings["versions"][0]["found"] == (
        f"llama-stack-client {client}, but the server is 0.1.9: HTTP 426"
    )
    assert findings["versions"][0]["cure"] == (
        f"Run a server of series {series}: lightspeed-azure needs llama-stack-client>=0.7"
    )
    assert "llama_stack.api_key" in findings["access"][0]["cure"]
    assert {states(findings)[name] for name in ("versions", "access")} == {"failed"}


class Stack(BaseHTTPRequestHandler):
    """A stack with vector stores, whose embedding model is a provider's."""

    def __init__(
        self,
        *connection: Any,
        embedding: str = "azure",
        model: dict[str, str] | None = None,
        more: Sequence[dict[str, str]] = (),
    ) -> None:
        self.embedding = embedding
        self.model = model or {"provider_id": "azure", "model_type": "llm"}
        self.more = more
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Say what it serves."""
        models = [
            {"id": "azure/chat", "custom_metadata": self.model},
            {
                "id": f"{self.embedding}/embed",
                "custom_metadata": {"provider_id": self.embedding, "model_type": "embedding"},
            },
        ]
        azure = {"provider_id": "azure", "provider_type": "remote::azure"}
        providers = [
            {**azure, "api": "inference", "config": {"base_url": "https://x/openai/v1"}},
            {"provider_id": "faiss", "provider_type": "inline::faiss", "api": "vector_io"},
            *self.more,
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


def test_a_model_without_a_provider_is_known_by_its_prefix() -> None:
    """A missing provider_id is not the text "None"; an entry without an id is no provider."""
    more = [{"provider_type": "remote::openai", "api": "inference"}]
    with served(partial(Stack, model={"model_type": "llm"}, more=more)) as url:
        stack = StackService(LlamaStackConfiguration(url=url))
        findings = list(stack.check())
    assert stack.providers == {"azure": "remote::azure", "faiss": "inline::faiss"}
    assert stack.models == {"azure/embed": "azure"}
    assert stack.provider_of("azure/chat") == "azure"
    assert stack.provider_of("None") is None
    (models,) = [each for each in findings if each.question == "models"]
    assert (models.state, models.found) == ("ok", "azure/chat, azure/embed")


@pytest.mark.parametrize("embedding", ["azure", "sentence-transformers"])
def test_vector_stores_with_embeddings_of_azure(embedding: str) -> None:
    """They get no token, which is said; with embeddings of another provider nothing is."""
    with served(partial(Stack, embedding=embedding)) as url:
        service = StackService(LlamaStackConfiguration(url=url))
        found = [each for each in service.check() if each.question == VECTOR_STORES]
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
