"""What the proxy says when something is not well names the cure, and is true."""

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
from entra_material import Certificate
from fake_stack import serving, stack
from proxying import CHAT, QUESTION, Recording, caller, in_front_of, proxying, signed_in

from lightspeed_azure import LlamaStackConfiguration
from lightspeed_azure.config import ProxyConfiguration, configuration_from_mapping
from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.proxy.proxy import serve

NOT_TRUSTED = (
    "The stack gave no answer: its certificate is not trusted. A private CA, or a proxy that inspects "
    "TLS? Set llama_stack.ca_bundle to its certificates"
)
REFUSED = (
    "The stack gave no answer: connection refused. Check the host and port in llama_stack.url, and "
    "that the service runs"
)


@pytest.mark.parametrize("family", ["llama-stack", None])
async def test_a_stack_with_a_certificate_of_its_own(family: str | None, tmp_path: Path) -> None:
    """Without the authority each answer and /status say `ca_bundle`; with it all goes through."""
    authority, manager = CertificateAuthority(), signed_in()
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.pem())
    async with serving(stack(Recording()), tls=authority.server_context()) as url:
        settings = {"url": url, "family": family}
        untrusted = LlamaStackConfiguration.from_object(settings)
        async with proxying(untrusted, manager) as proxy, caller(proxy) as http:
            for answer in (
                await http.post(CHAT, json=QUESTION),
                await http.get("/v1/models"),
                await http.get("/client-config"),
            ):
                assert answer.status_code >= 502
                assert answer.json()["error"]["message"] == NOT_TRUSTED
            state = {"reachable": False, "message": NOT_TRUSTED}
            assert (await http.get("/status")).json()["stack"] == state
        trusted = LlamaStackConfiguration.from_object({**settings, "ca_bundle": bundle})
        async with proxying(trusted, manager) as proxy, caller(proxy) as http:
            assert (await http.post(CHAT, json=QUESTION)).status_code == 200
    manager.close()


async def test_a_stack_that_speaks_no_tls() -> None:
    """TLS asked of a stack that has none is told apart from a stack that is down."""
    manager = signed_in()
    async with serving(stack(Recording())) as url:
        tls = LlamaStackConfiguration(url=url.replace("http:", "https:"), family="llama-stack")
        async with proxying(tls, manager) as proxy, caller(proxy) as http:
            said = (await http.post(CHAT, json=QUESTION)).json()["error"]["message"]
    assert said == (
        "The stack gave no answer: no TLS connection. Check that https and the port in "
        "llama_stack.url are right, and what a proxy does in between"
    )
    manager.close()


async def test_a_stack_that_is_down_is_not_said_to_have_answered() -> None:
    """No request to a stack that is away is told of an answer that the proxy made itself."""
    manager = signed_in()
    nowhere = LlamaStackConfiguration(url="http://127.0.0.1:9", family="llama-stack")
    async with proxying(nowhere, manager) as proxy, caller(proxy) as http:
        answer = await http.post(CHAT, json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stack_unavailable")
    assert answer.json()["error"]["message"] == REFUSED
    assert answer.headers["retry-after"]
    manager.close()


async def test_operators_read_the_url_of_a_stack_that_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log and the admin port name it, without its query; callers see no host."""
    manager = signed_in()
    nowhere = LlamaStackConfiguration(url="http://127.0.0.1:9/path", family="llama-stack")
    async with proxying(nowhere, manager) as proxy, caller(proxy) as http:
        answer = await http.get("/v1/models")
        assert answer.json()["error"]["message"] == REFUSED
        assert "127.0.0.1:9" not in (await http.get("/status")).text
        async with httpx.AsyncClient(base_url=proxy.admin_url) as admin:
            found = (await admin.get("/status")).json()["stack"]
    assert found == {"reachable": False, "message": REFUSED, "url": "http://127.0.0.1:9/path"}
    assert f"The stack at http://127.0.0.1:9/path {REFUSED[10:]}" in caplog.messages
    manager.close()


async def test_a_stack_whose_certificate_has_another_name_is_not_named_to_callers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSSL's words name the host: operators read them in the log, callers do not."""
    certificate, manager = Certificate(host="localhost"), signed_in()
    bundle, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    bundle.write_bytes(certificate.public)
    key.write_bytes(certificate.pem())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(bundle, key)
    async with serving(stack(Recording()), tls=tls) as url:
        settings = {"url": url, "family": "llama-stack", "ca_bundle": bundle}
        elsewhere = LlamaStackConfiguration.from_object(settings)
        async with proxying(elsewhere, manager) as proxy, caller(proxy) as http:
            answer = await http.get("/v1/models")
    assert answer.json()["error"]["message"] == (
        "The stack gave no answer: its certificate is not trusted. Use a name in llama_stack.url that "
        "the certificate is for"
    )
    (line,) = [line for line in caplog.messages if "gave no answer" in line]
    assert line == (
        f"The stack at {url} gave no answer: its certificate is not trusted: IP address mismatch, "
        "certificate is not valid for '127.0.0.1'. Use a name in llama_stack.url that the "
        "certificate is for"
    )
    manager.close()


async def test_a_base_url_without_v1_is_told_so() -> None:
    """Whoever leaves /v1 out, as it is easily done, reads what was left out."""
    async with in_front_of(Recording()) as proxy, caller(proxy) as http:
        answer = await http.post("/chat/completions", json=QUESTION)
    assert answer.status_code == 404
    assert "begin with /v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("signs_in", [True, False])
async def test_a_proxy_without_any_key_says_so(
    signs_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten block is said when it starts, not at the first question."""
    identity = {"azure_entra_id": {"credential": "proxying:Credential"}} if signs_in else {}
    stack_block = {"llama_stack": {"url": "http://127.0.0.1:9"}}
    configuration = configuration_from_mapping(stack_block | identity)
    monkeypatch.setattr("lightspeed_azure.proxy.proxy._quieten_collector", lambda: None)
    told: list[str] = []
    listening = asyncio.Event()

    def note(line: str) -> None:
        told.append(line)
        asyncio.get_running_loop().call_soon(listening.set)

    config = ProxyConfiguration(port=0, admin_port=0)
    task = asyncio.create_task(serve(configuration, config, note))
    async with asyncio.timeout(10):
        await listening.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert any("add azure_entra_id" in line for line in told) is not signs_in
