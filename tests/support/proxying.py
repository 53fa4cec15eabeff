"""A proxy in front of a stack, in this process, for tests."""

import asyncio
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from fake_stack import COMPLETION, Handler, serving, stack
from token_cache_fakes import FakeClock

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.keys.provider_credentials import ProviderCredentials
from lightspeed_azure.proxy.proxy import Proxy, running

TOKEN = "canary-token-of-entra-id"
MODEL = "azure/gpt-4o-mini"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**QUESTION, "stream": True}
CHAT = "/v1/chat/completions"
EVENT = b'data: {"choices": []}\n\n'


class Credential:
    """Signs in without Entra ID; no two tokens are the same."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return a token that lives an hour."""
        return AccessToken(f"{TOKEN}-{secrets.token_hex(8)}", int(time.time()) + 3600)


class Broken:
    """Never signs in."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Fail."""
        raise RuntimeError("no token today")


class Hanging:
    """Does not sign in before a test lets it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Wait, then return a token."""
        self.go_on.wait(60)
        return AccessToken(TOKEN, int(time.time()) + 3600)


class ShortLived:
    """Signs in for three seconds; the token says when it ends."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return a token."""
        end = time.time() + 3
        return AccessToken(f"until-{end}", int(end))


class Switch:
    """Signs in by the clock of a test, and can be switched off."""

    def __init__(self, clock: FakeClock) -> None:
        self.works = True
        self.clock = clock

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return a token that lives 100 s, or fail."""
        if not self.works:
            raise RuntimeError("not today")
        return AccessToken(TOKEN, int(self.clock.wall()) + 100)


def named(credential: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a configuration calls this credential while the test runs."""
    monkeypatch.setattr(f"{__name__}.of_this_test", lambda: credential, raising=False)
    return f"{__name__}:of_this_test"


def signed_in() -> AzureEntraIDManager:
    """Return a manager that always has a token."""
    return AzureEntraIDManager.isolated({"credential": "proxying:Credential"})


@asynccontextmanager
async def proxying(
    upstream: str | LlamaStackConfiguration,
    manager: AzureEntraIDManager,
    credentials: ProviderCredentials | None = None,
    **config: Any,
) -> AsyncIterator[Proxy]:
    """Run a proxy at free ports while the block lasts."""
    if isinstance(upstream, str):
        upstream = LlamaStackConfiguration(url=upstream)
    settings = ProxyConfiguration(**{"port": 0, "admin_port": 0, **config})
    async with running(Proxy(upstream, settings, manager, credentials)) as proxy:
        yield proxy


@asynccontextmanager
async def in_front_of(handler: Handler, **config: Any) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a stack whose answers a test gives; it is signed in."""
    manager = signed_in()
    try:
        async with serving(stack(handler)) as url, proxying(url, manager, **config) as proxy:
            yield proxy
    finally:
        manager.close()


def caller(proxy: Proxy, **options: Any) -> httpx.AsyncClient:
    """Return a client of the proxy's that knows nothing of Entra ID."""
    return httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=30, **options)


async def eventually(get: Callable[[], Awaitable[httpx.Response]], status: int) -> httpx.Response:
    """Ask until the answer has this status."""
    async with asyncio.timeout(10):
        while (answer := await get()).status_code != status:  # noqa: ASYNC110 - as a kubelet does
            await asyncio.sleep(0.02)
    return answer


class Recording:
    """A stack that notes what it gets, and answers a completion.

    Attributes:
        requests: method, path, headers as they came, and body of each request.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Note a request and answer it."""
        body = await request.read()
        headers = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        self.requests.append((request.method, request.raw_path, headers, body))
        return web.json_response(COMPLETION)

    def header(self, name: str) -> list[str]:
        """Return what the last request had of a header."""
        return [value for each, value in self.requests[-1][2] if each.lower() == name.lower()]


async def raw(proxy: Proxy, data: bytes, *, seconds: float = 2.0) -> bytes:
    """Send bytes as they are, and return what comes back until the proxy hangs up or is silent."""
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    with suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
        while True:
            try:
                async with asyncio.timeout(seconds):
                    part = await reader.read(65536)
            except TimeoutError:
                break
            if not part:
                break
            answer += part
    writer.close()
    return answer


def streaming(
    *, started: asyncio.Event, ended: asyncio.Event, events: int = 10**9, pause: float = 0.01
) -> Handler:
    """Return a stack that streams events, and says when a stream has begun and ended."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for _ in range(events):
                await response.write(EVENT)
                started.set()
                await asyncio.sleep(pause)
            await response.write(b"data: [DONE]\n\n")
        finally:
            ended.set()
        return response

    return handle


class Running:
    """The command as a process.

    Attributes:
        url: where callers reach it.
        admin_url: where operators do.
        rest: what it says after its addresses, until it ends.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        rest: asyncio.Task[bytes],
        url: str,
        admin_url: str,
    ) -> None:
        self.process = process
        self.rest = rest
        self.url = url
        self.admin_url = admin_url

    def client(self) -> httpx.AsyncClient:
        """Return a client of it."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20)


@asynccontextmanager
async def command(
    stack_url: str,
    folder: Path,
    *,
    credential: str = "Credential",
    environment: Mapping[str, str] = MappingProxyType({}),
    **proxy: Any,
) -> AsyncIterator[Running]:
    """Run `lightspeed-azure proxy` while the block lasts."""
    config = {
        "azure_entra_id": {"credential": f"proxying:{credential}"},
        "llama_stack": {"url": stack_url},
        "proxy": {"port": 0, "admin_port": 0, **proxy},
    }
    file = folder / "lightspeed-stack.yaml"
    file.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightspeed_azure", "proxy", "-c", str(file)),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
    )
    assert process.stderr is not None
    try:
        urls: list[str] = []
        while len(urls) < 2:
            line = (await process.stderr.readline()).decode()
            assert line, "it has ended"
            if " on http" in line:
                urls.append(line.partition(" on ")[2].split()[0])
        reading = asyncio.create_task(process.stderr.read())  # or the pipe fills, and it stands
        yield Running(process, reading, *urls)
        reading.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def most_memory(process: int) -> int:
    """Return the most bytes that a process has had in memory."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) * 1024
