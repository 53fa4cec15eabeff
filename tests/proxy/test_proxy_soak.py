"""Five hundred streams at once, with renewals and callers who leave: none lost, and nothing grows.

The short form runs in every test run; the long one, a minute, by `make soak`. Nothing here depends on
how fast the machine is: a token is compared with the moment before its request was sent, and what is
still open after a run has time to close.
"""

import asyncio
import json
import os
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from fake_stack import headers_of, serving, stack
from families import FAMILY
from proxying import CHAT, STREAMED, command

STREAMS = 500
SETTLED_WITHIN = 60.0
EVENTS, PAUSE = 8, 0.2


class Judge:
    """A stack that streams numbered events, and judges each request's token.

    Attributes:
        tokens: every token that it has seen.
        expired: how many tokens had expired before the caller sent the request.
        open: how many streams are open.
    """

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.expired = 0
        self.open = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Stream."""
        sent = float(json.loads(await request.read())["user"])
        token = json.loads(headers_of(request)[FAMILY.header.lower()])["azure_api_key"]
        self.tokens.add(token)
        self.expired += float(token.removeprefix("until-")) < sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.open += 1
        try:
            for number in range(EVENTS):
                await response.write(b"data: %d\n\n" % number)
                await asyncio.sleep(PAUSE)
        finally:
            self.open -= 1
        return response


EXPECTED = b"".join(b"data: %d\n\n" % number for number in range(EVENTS))


async def callers(url: str, seconds: float) -> tuple[int, int]:
    """Stream over and over; return how many streams came whole, and how many were left."""
    whole = left = 0
    end = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(*, leaves: bool) -> None:
            nonlocal whole, left
            body = {**STREAMED, "user": str(time.time())}
            async with session.post(url + CHAT, json=body) as answer:
                assert answer.status == 200, await answer.text()
                text = b""
                async for part in answer.content.iter_any():
                    text += part
                    if leaves:
                        left += 1
                        answer.close()
                        return
            assert text == EXPECTED
            whole += 1

        async def worker(number: int) -> None:
            while time.monotonic() < end:
                await one(leaves=number % 5 == 0)

        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                group.create_task(worker(number))
    return whole, left


def usage(pid: int) -> tuple[int, int]:
    """Return the KiB that a process holds, and how many files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(4.0, id="short"),
        pytest.param(60.0, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
async def test_streams_renewals_and_callers_who_leave(tmp_path: Path, seconds: float) -> None:
    """Every stream that is read comes whole, with a token that is valid; memory stays flat."""
    judge = Judge()
    async with (
        serving(stack(judge)) as url,
        command(url, tmp_path, credential="ShortLived", connect_timeout=60.0) as running,
    ):
        await callers(running.url, 1.0)  # what is built once is built now
        memory, files = usage(running.process.pid)
        whole, left = await callers(running.url, seconds)
        end = time.monotonic() + SETTLED_WITHIN
        while True:  # idle connections to the stack close after some seconds
            memory_after, files_after = usage(running.process.pid)
            settled = not judge.open and files_after <= files + 5
            if settled or time.monotonic() > end:
                break
            await asyncio.sleep(0.1)
    assert judge.open == 0
    assert whole >= STREAMS // 2
    assert left > STREAMS // 10
    assert judge.expired == 0
    assert len(judge.tokens) >= 2
    assert memory_after - memory < 30_000
    assert files_after <= files + 5
