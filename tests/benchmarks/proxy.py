"""What the proxy costs, as ratios against others in front of the same upstream, in the same run.

Run `python tests/benchmarks/proxy.py`; it ends with 1 when a ratio misses its limit.

- requests a second against a bare aiohttp proxy, which reads nothing and adds nothing: at least 0.8;
- against LiteLLM's proxy, which is installed into an environment of its own: at least 40 times
  (`--without-litellm` leaves that out);
- the time that it adds to the first byte of a stream, one request at a time: under 2 ms;
- 50 streams for `--seconds` (10 minutes with `--seconds 600`): no growth.

Load comes from wrk where it is installed, else from a generator of this file, the same for all. Each
proxy has a core for itself, and load and upstream have the others: two that share one by chance
would halve a figure. Two servers are asked in turn, several times, and started anew in between, as
chance has its part in where a process lies in memory. What counts is the best second of each, as
whatever else the machine does can only slow them down.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from azure.core.credentials import AccessToken

BARE_LIMIT, LITELLM_LIMIT, FIRST_BYTE_LIMIT, GROWTH_LIMIT = 0.8, 40.0, 0.002, 4096
STARTS, ROUNDS, SECONDS, CONNECTIONS = 6, 15, 1, 32
STREAMS = 50
CORES = sorted(os.sched_getaffinity(0))
OF_PROXIES, OF_OTHERS = {CORES[0]}, {*CORES[1:]} or {CORES[0]}

QUESTION = {"model": "azure/gpt-4o-mini", "messages": [{"role": "user", "content": "hello " * 20}]}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hi there " * 40},
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "hello"}}]}\n\n'


class Credential:
    """A token without Entra ID: it is not what is measured."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return a token as long as Entra ID's are."""
        return AccessToken("e" * 2000, int(time.time()) + 3600)


async def upstream(port: int) -> None:
    """Serve what a stack would, at once."""
    models = [{"id": QUESTION["model"], "custom_metadata": {"provider_id": "azure"}}]
    providers = [
        {
            "provider_id": "azure",
            "provider_type": "remote::azure",
            "config": {"base_url": "https://example.openai.azure.com/openai/v1"},
        }
    ]
    known = {
        "/v1/models": json.dumps({"data": models}).encode(),
        "/v1/providers": json.dumps({"data": providers}).encode(),
        "/v1/version": b'{"version": "0.7.3"}',
    }
    answer = json.dumps(ANSWER).encode()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if b'"stream": true' in body:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                for _ in range(1 if b'"one"' in body else 10**9):
                    await response.write(EVENT)
                    if b'"one"' not in body:
                        await asyncio.sleep(0.05)
            return response
        return web.Response(body=known.get(request.path, answer), content_type="application/json")

    await _serve(web.Server(handle, access_log=None), port)


async def bare(port: int, target: str) -> None:
    """Serve a proxy as small as one can be: streams both ways, and looks at nothing."""
    session = aiohttp.ClientSession(
        auto_decompress=False, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = request.headers.copy()
        headers.pop("Host", None)
        async with session.request(
            request.method,
            target + request.path_qs,
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.headers["Content-Type"] = answer.headers["Content-Type"]
            response.content_length = answer.content_length
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def _serve(server: web.Server, port: int) -> None:
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


@contextlib.contextmanager
def process(command: Sequence[str], port: int, **options: Any) -> Iterator[int]:
    """Run a server while the block lasts; give its process id once its port is open."""
    with Path(options.pop("log", os.devnull)).open("wb") as log:
        cores = options.pop("cores", None)
        started = subprocess.Popen(command, stdout=log, stderr=log, **options)
        if cores:
            os.sched_setaffinity(started.pid, cores)  # before it has threads
        try:
            asyncio.run(_open(port, started))
            yield started.pid
        finally:
            started.terminate()
            started.wait(30)


async def _open(port: int, started: "subprocess.Popen[bytes]") -> None:
    for _ in range(1800):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if started.poll() is not None:
            raise SystemExit(f"{started.args!r} ended with {started.returncode}")
        await asyncio.sleep(0.1)
    raise SystemExit(f"{started.args!r} does not listen")


def rate(url: str, folder: Path) -> float:
    """Return the requests a second that a server answers."""
    body = json.dumps(QUESTION)
    if shutil.which("wrk") is None:
        return asyncio.run(_rate(int(url.rpartition(":")[2]), body.encode()))
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--timeout", "30s"]
    command += ["-s", str(script), f"{url}/v1/chat/completions"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"not every request was answered at {url}:\n{text}")
    return float(text.partition("Requests/sec:")[2].split()[0])


async def _rate(port: int, body: bytes) -> float:
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    request += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    end = time.perf_counter() + SECONDS

    async def worker() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while time.perf_counter() < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head:
                raise SystemExit("not every request was answered")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))) / SECONDS


def rates(urls: Sequence[str], folder: Path) -> list[float]:
    """Return the best rate of each server, asked in turn."""
    rounds = [[rate(url, folder) for url in urls] for _ in range(ROUNDS)]
    return [max(each) for each in zip(*rounds, strict=True)]


async def first_bytes(ports: Sequence[int], rounds: int = 400) -> list[float]:
    """Return the median time to the first byte of a stream at each port, asked in turn."""
    body = json.dumps({**QUESTION, "stream": True, "user": "one"}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    request += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    connections = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    times: list[list[float]] = [[] for _ in ports]
    for number in range(rounds):
        for index, (reader, writer) in enumerate(connections):
            began = time.perf_counter()
            writer.write(request)
            await reader.readuntil(b"data: ")
            if number >= rounds // 10:
                times[index].append(time.perf_counter() - began)
            await reader.readuntil(b"0\r\n\r\n")
    for _, writer in connections:
        writer.close()
    return [statistics.median(each) for each in times]


def memory(pid: int) -> int:
    """Return what a process holds, in KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


async def streams(url: str, pid: int, seconds: float) -> int:
    """Return by how many KiB the proxy grows while streams go on."""
    patient = aiohttp.ClientTimeout(total=None)  # by itself it ends a stream after five minutes
    unlimited = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=unlimited, timeout=patient) as session:

        async def one() -> AsyncIterator[bytes]:
            question = {**QUESTION, "stream": True}
            async with session.post(f"{url}/v1/chat/completions", json=question) as answer:
                async for part in answer.content.iter_any():
                    yield part

        async def reading() -> None:
            async for _ in one():
                pass

        tasks = [asyncio.create_task(reading()) for _ in range(STREAMS)]
        await asyncio.sleep(max(2.0, seconds / 10))
        before = memory(pid)
        await asyncio.sleep(seconds)
        after = memory(pid)
        assert not any(task.done() for task in tasks), "a stream has ended"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return after - before


@contextlib.contextmanager
def litellm(port: int, target: str, folder: Path) -> Iterator[None]:
    """Run LiteLLM's proxy, in an environment of its own."""
    venv = folder / "litellm"
    uv = shutil.which("uv") or "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python")]
    subprocess.run([*install, "litellm[proxy]"], check=True)
    config = folder / "litellm.yaml"
    params = {"model": "openai/gpt-4o-mini", "api_base": f"{target}/v1", "api_key": "none"}
    models = [{"model_name": QUESTION["model"], "litellm_params": params}]
    config.write_text(json.dumps({"model_list": models}))
    command = [str(venv / "bin" / "litellm"), "--config", str(config), "--port", str(port)]
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "NO_PROXY": "127.0.0.1",
    }
    command += ["--host", "127.0.0.1"]
    with process(command, port, env=environment, cwd=folder, cores=OF_PROXIES):
        yield


def verdict(name: str, shown: str, limit: str, *, good: bool) -> bool:
    """Print one line of the table."""
    print(f"{name:52} {shown:>12}   limit {limit:>8}   {'ok' if good else 'MISSED'}")
    return good


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    python, here = sys.executable, Path(__file__)
    ports = {"upstream": 18321, "bare": 18322, "ours": 18323, "litellm": 18324}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as running:
        folder = Path(made)
        settings = {
            "azure_entra_id": {"credential": f"{here.stem}:Credential"},
            "llama_stack": {"url": urls["upstream"], "family": "llama-stack"},
            "proxy": {"port": ports["ours"], "admin_port": 0},
        }
        config = folder / "lightspeed-stack.yaml"
        config.write_text(json.dumps(settings))
        environment = {**os.environ, "PYTHONPATH": str(here.parent)}
        start = running.enter_context
        os.sched_setaffinity(0, OF_OTHERS)  # inherited by the upstream and the load
        start(process([python, str(here), "upstream"], ports["upstream"], env=environment))
        commands = {
            "bare": [python, str(here), "bare"],
            "ours": [python, "-P", "-m", "lightspeed_azure", "proxy", "-c", str(config)],
        }

        def proxy(name: str) -> contextlib.AbstractContextManager[int]:
            return process(commands[name], ports[name], env=environment, cores=OF_PROXIES)

        best = []
        for _ in range(STARTS):
            with proxy("bare"), proxy("ours"):
                best.append(rates((urls["ours"], urls["bare"]), folder))
        fast, slow = (max(each) for each in zip(*best, strict=True))
        good = verdict(
            "requests/s against a bare aiohttp proxy",
            f"{fast / slow:.2f}",
            f">= {BARE_LIMIT}",
            good=fast / slow >= BARE_LIMIT,
        )
        pid = start(proxy("ours"))
        direct, through = asyncio.run(first_bytes((ports["upstream"], ports["ours"])))
        good &= verdict(
            "added time to first byte, concurrency 1",
            f"{(through - direct) * 1000:.2f} ms",
            f"< {FIRST_BYTE_LIMIT * 1000:.0f} ms",
            good=through - direct < FIRST_BYTE_LIMIT,
        )
        growth = asyncio.run(streams(urls["ours"], pid, arguments.seconds))
        good &= verdict(
            f"growth over {STREAMS} streams of {arguments.seconds:.0f} s",
            f"{growth} KiB",
            f"{GROWTH_LIMIT} KiB",
            good=growth <= GROWTH_LIMIT,
        )
        if not arguments.without_litellm:
            with litellm(ports["litellm"], urls["upstream"], folder):
                fast, slow = rates((urls["ours"], urls["litellm"]), folder)
            good &= verdict(
                "requests/s against LiteLLM's proxy",
                f"{fast / slow:.0f} times",
                f">= {LITELLM_LIMIT:.0f}",
                good=fast / slow >= LITELLM_LIMIT,
            )
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["upstream"]:
        asyncio.run(upstream(18321))
    elif sys.argv[1:] == ["bare"]:
        asyncio.run(bare(18322, "http://127.0.0.1:18321"))
    else:
        sys.exit(main())
