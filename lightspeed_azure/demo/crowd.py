"""The questions: plain and streaming ones, concurrently, for a while."""

import asyncio
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

WORKERS = 8
"""Questions under way at once."""

PAUSE = 0.05
"""Seconds between a worker's questions, so that two cores also serve the answers."""


@dataclass
class Tally:
    """What came of the questions so far."""

    plain: int = 0
    streamed: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        """How many questions have ended, one way or the other."""
        return self.plain + self.streamed + self.failures.total()


async def ask_for(seconds: float, service: str, tally: Tally) -> None:
    """Ask the service questions for some seconds, half of them streaming.

    Args:
        seconds: for how long new questions are asked; those under way then are waited for.
        service: the example service's URL.
        tally: counts what comes of them, while it happens.
    """
    end = time.monotonic() + seconds
    async with _client(service) as client, asyncio.TaskGroup() as group:
        for number in range(WORKERS):
            group.create_task(_worker(client, number, end, tally))


async def ask_once(service: str, tally: Tally) -> None:
    """Ask one plain question: the one that waits for the first token."""
    async with _client(service) as client:
        await _ask(client, "/query", "What is the first question?", tally)


def _client(service: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service, timeout=60, trust_env=False)


async def _worker(client: httpx.AsyncClient, number: int, end: float, tally: Tally) -> None:
    for count in itertools.count(number):
        if time.monotonic() >= end:
            return
        path = "/query/stream" if count % 2 else "/query"
        await _ask(client, path, f"What does worker {number} ask as number {count}?", tally)
        await asyncio.sleep(PAUSE)


async def _ask(client: httpx.AsyncClient, path: str, question: str, tally: Tally) -> None:
    try:
        response = await client.post(path, json={"query": question})
        problem = _problem(path, response)
    except httpx.HTTPError as error:
        problem = type(error).__name__
    if problem:
        tally.failures[problem] += 1
    elif path == "/query":
        tally.plain += 1
    else:
        tally.streamed += 1


def _problem(path: str, response: httpx.Response) -> str:
    """Return what is wrong with an answer, "" when nothing is."""
    if not response.is_success:
        return f"HTTP {response.status_code}: {response.text[:200]}"
    if path == "/query":
        return "" if response.json().get("response") else "an empty answer"
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return "a stream that was cut off"
    return "" if any(json.loads(event)["response"] for event in events[:-1]) else "an empty stream"
