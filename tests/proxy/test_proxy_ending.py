"""How the command starts and ends: what it prints, SIGTERM, certificates, and bad input."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from entra_material import Certificate
from fake_stack import serving, stack
from proxying import (
    CHAT,
    QUESTION,
    STREAMED,
    Recording,
    caller,
    command,
    eventually,
    in_front_of,
    streaming,
)

from lightspeed_azure import InvalidConfigurationError
from lightspeed_azure.cli import main
from lightspeed_azure.proxy.certificate import ServerCertificate
from lightspeed_azure.proxy.proxy import run


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_command_runs_on_uvloop(tmp_path: Path) -> None:
    """What is measured is what is tested."""
    async with serving(stack(Recording())) as url, command(url, tmp_path) as running:
        maps = await asyncio.to_thread(Path(f"/proc/{running.process.pid}/maps").read_text)
        assert "uvloop" in maps


@pytest.mark.skipif(sys.platform == "win32", reason="has no uvloop")
def test_what_is_run_is_on_uvloops_loop() -> None:
    """It is not just imported."""
    seen: list[str] = []

    async def work() -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)

    run(work())
    assert seen == ["uvloop"]


async def test_sigterm_lets_requests_finish(tmp_path: Path) -> None:
    """After SIGTERM readiness says no, streams end as they would, and then it ends with 0."""
    started, ended = asyncio.Event(), asyncio.Event()
    handler = streaming(started=started, ended=ended, events=60, pause=0.05)
    async with serving(stack(handler)) as url, command(url, tmp_path, drain_delay=1.0) as running:
        async with running.client() as http, http.stream("POST", CHAT, json=STREAMED) as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            running.process.send_signal(signal.SIGTERM)
            async with running.client() as other:
                told = await eventually(lambda: other.get("/readyz"), 503)
                assert told.json() == {"status": "draining"}
                assert told.headers["connection"] == "close"
                assert (await other.get("/livez")).status_code == 200
            rest = b"".join([part async for part in parts])
            assert rest.endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(10):
            assert await running.process.wait() == 0
            assert b"cut off" not in await running.rest
        with pytest.raises(httpx.ConnectError):
            async with running.client() as late:
                await late.get("/livez")


@pytest.mark.parametrize("how", ["limit", "second signal"])
async def test_draining_has_an_end(tmp_path: Path, how: str) -> None:
    """A stream without end does not keep it: the limit, or a second signal, ends both."""
    started, ended = asyncio.Event(), asyncio.Event()
    limit = 0.5 if how == "limit" else 60.0
    handler = streaming(started=started, ended=ended)
    async with (
        serving(stack(handler)) as url,
        command(url, tmp_path, drain_limit=limit) as running,
        running.client() as http,
        http.stream("POST", CHAT, json=STREAMED) as answer,
    ):
        parts = answer.aiter_bytes()
        await anext(parts)
        running.process.send_signal(signal.SIGTERM)
        if how != "limit":
            async with httpx.AsyncClient(base_url=running.admin_url, trust_env=False) as admin:
                await eventually(lambda: admin.get("/readyz"), 503)
            running.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.TransportError):
            async for _ in parts:
                pass
        async with asyncio.timeout(10):
            assert await running.process.wait() == 0
            await ended.wait()
            assert b"1 requests were cut off" in await running.rest


async def test_an_upload_survives_draining() -> None:
    """A body that is still coming when draining begins arrives whole."""
    seen = Recording()
    body = json.dumps(QUESTION).encode()
    async with in_front_of(seen, drain_limit=10.0) as proxy:
        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        idle_reader, idle_writer = await asyncio.open_connection(host, int(port))
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:10])
        while not proxy.in_flight:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(proxy.drain())
        assert await idle_reader.read() == b""  # hung up on at once
        assert not draining.done()
        writer.write(body[10:])
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
        await draining
        writer.close()
        idle_writer.close()
    assert seen.requests[-1][3] == body


async def test_who_reads_no_answer_is_hung_up_on() -> None:
    """A caller who asks again and again and takes no answer does not keep the connection."""
    async with in_front_of(Recording(), idle_timeout=0.5) as proxy:
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            host, _, port = proxy.url.removeprefix("http://").rpartition(":")
            caller.connect((host, int(port)))
            caller.setblocking(False)
            with pytest.raises(ConnectionError):
                await _asking_for_ever(caller)


async def _asking_for_ever(caller: socket.socket) -> None:
    async with asyncio.timeout(20):
        while True:
            requests = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 99
            await asyncio.get_running_loop().sock_sendall(caller, requests)


def pair(folder: Path, host: str = "localhost") -> tuple[Path, Path, bytes]:
    """Write a certificate and its key; return the files, and the certificate."""
    certificate = Certificate(host=host)
    crt, key = folder / "tls.crt", folder / "tls.key"
    crt.write_bytes(certificate.public)
    key.write_bytes(certificate.pem())
    return crt, key, certificate.public


async def test_tls_and_its_rotation(tmp_path: Path) -> None:
    """It serves TLS, and new connections get the new certificate once both files fit together."""
    crt, key, _ = pair(tmp_path)
    config = {"tls_certificate": str(crt), "tls_key": str(key)}
    async with in_front_of(Recording(), **config) as proxy:
        assert proxy.url.startswith("https://")
        verify = ssl.create_default_context(cafile=crt)
        async with caller(proxy, verify=verify) as http:
            url = proxy.url.replace("127.0.0.1", "localhost")
            assert (await http.post(url + CHAT, json=QUESTION)).status_code == 200
    own = ServerCertificate(crt, key)
    assert not own.look()
    before = crt.read_bytes()
    other = Certificate(host="localhost")
    crt.write_bytes(other.public[:200])
    assert not own.look()  # half-written
    crt.write_bytes(other.public)
    key.write_bytes(other.pem())
    assert own.look()
    assert not own.look()
    assert crt.read_bytes() != before


async def test_an_encrypted_key_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, at start and later, and nobody is asked for the passphrase."""
    crt, key, _ = pair(tmp_path)
    own = ServerCertificate(crt, key)
    other = Certificate(host="localhost")
    crt.write_bytes(other.public)
    key.write_bytes(other.pem("a passphrase"))
    fault = (
        f"proxy.tls_key: {key} is encrypted, and the proxy cannot ask for the passphrase; "
        f"decrypt it: openssl pkey -in {key} -out <file>"
    )
    assert not await asyncio.to_thread(own.look)
    assert caplog.messages == [f"The new certificate is not used yet; {fault}"]
    with pytest.raises(InvalidConfigurationError) as caught:
        ServerCertificate(crt, key)
    assert str(caught.value) == fault
    assert caught.value.__cause__ is None
    key.write_bytes(other.pem())
    assert own.look()


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("tls.crt", "tls_certificate: {} does not exist; correct the path, or create the file"),
        ("tls.key", "tls_key: {} does not exist; correct the path, or create the file"),
    ],
)
def test_a_missing_file_of_the_certificate_is_named(
    tmp_path: Path, missing: str, told: str
) -> None:
    """The error names its key and its path."""
    crt, key, _ = pair(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InvalidConfigurationError) as caught:
        ServerCertificate(crt, key)
    assert str(caught.value) == "proxy." + told.format(tmp_path / missing)


BASE = {"azure_entra_id": {"credential": "proxying:Credential"}}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({}, "ogx (or llama_stack): is missing"),
        (
            {"llama_stack": {"use_as_library_client": True, "library_client_config_path": "x"}},
            "no such file",
        ),
        ({"proxy": {"port": 70000}}, "proxy.port: must be at most 65535"),
        (
            {"proxy": {"port": "8080"}},
            "proxy.port: must be a whole number; write it without quotes",
        ),
        ({"proxy": {"prot": 1}}, "did you mean port?"),
        ({"proxy": {"body_limit": 3}}, "proxy.body_limit: must be at least 1024 bytes"),
        ({"proxy": {"idle_timeout": 0}}, "proxy.idle_timeout"),
        ({"proxy": {"provider_data": ["azure_api_key"]}}, "proxy.provider_data[0]"),
        ({"proxy": {"provider_data": "x"}}, "must be a list"),
        ({"proxy": {"routes": ["v1/x"]}}, "proxy.routes[0]"),
        ({"proxy": {"strip_headers": ["x y"]}}, "proxy.strip_headers[0]"),
        ({"proxy": {"connection_limit": 0}}, "proxy.connection_limit: must be at least 1"),
        ({"proxy": {"admin_names": ["http://x:1"]}}, "proxy.admin_names[0]: must be a host name"),
        ({"proxy": {"tls_certificate": "x"}}, "proxy.tls_key: is missing"),
        ({"proxy": {"external_url": "x"}}, "proxy.external_url: is not a URL"),
        ({"proxy": {"inbound": {"kind": "jwt"}}}, "proxy.inbound.issuer: is missing"),
        ({"proxy": {"inbound": {"kidn": "jwt"}}}, "did you mean kind?"),
        ({"proxy": []}, "proxy: must be a map"),
    ],
)
def test_bad_input_is_said(tmp_path: Path, blocks: dict[str, Any], words: str) -> None:
    """Each fault is one line with its key and the cure, and exit code 2."""
    file = tmp_path / "lightspeed-stack.yaml"
    usual = (
        {}
        if "llama_stack" in blocks or not blocks
        else {"llama_stack": {"url": "http://localhost"}}
    )
    file.write_text(json.dumps({**BASE, **usual, **blocks}))
    result = CliRunner().invoke(main, ["proxy", "-c", str(file)])
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "Traceback" not in result.output


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port in use is bad input, and says which key."""
    async with serving(stack(Recording())) as url:
        file = tmp_path / "lightspeed-stack.yaml"
        file.write_text(json.dumps({"llama_stack": {"url": url}, "proxy": {"admin_port": 0}}))
        port = url.rpartition(":")[2]
        result = await asyncio.to_thread(
            CliRunner().invoke, main, ["proxy", "-c", str(file), "--port", port]
        )
    assert result.exit_code in (1, 2), result.output


def test_variables_are_numbers_where_numbers_are_meant(tmp_path: Path) -> None:
    """`${env.…}` works for ports, limits and switches."""
    from lightspeed_azure.config import load_configuration

    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text("proxy:\n  port: ${env.P}\n  tracing: ${env.T:=false}\n  host: ${env.H:=::1}\n")
    proxy = load_configuration(file, environ={"P": "9000"}).proxy
    assert proxy is not None
    assert (proxy.port, proxy.tracing, proxy.host) == (9000, False, "::1")
