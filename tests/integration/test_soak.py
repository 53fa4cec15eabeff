"""A stack inside the process under fire: renewals and requests without end, and nothing grows.

The short form runs in every test run; the long one, with 1,000 renewals and 10,000 requests, by
`make soak`. What the stack itself costs is measured in the same run. Nothing here depends on how fast
the machine is: renewals are spread over the requests, and what is still open after a run has time to
close.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from families import FAMILY
from integration_support import RUN_CONFIG, ask, ask_streaming

from lightspeed_azure import (
    AsyncLlamaStackClientHolder,
    AzureEntraIDManager,
    LlamaStackConfiguration,
)
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration

AT_ONCE = 20
SETTLED_WITHIN = 60.0
STATM = Path("/proc/self/statm")


async def usage() -> dict[str, int]:
    """Return what this process holds, memory in KiB."""
    for _ in range(
        3
    ):  # the stack leaves closing its clients to the collector, and that to the loop
        gc.collect()
        await asyncio.sleep(0.2)
    pages = int(STATM.read_text().split()[1])  # noqa: ASYNC240 - no disk is behind it
    return {
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - Path.iterdir opens one more
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "memory": pages * os.sysconf("SC_PAGESIZE") // 1024,
    }


async def settled() -> dict[str, int]:
    """Return what this process holds once it closes nothing more."""
    end = time.monotonic() + SETTLED_WITHIN
    before = await usage()
    while time.monotonic() < end:
        await asyncio.sleep(0.5)
        now = await usage()
        if all(now[name] >= before[name] for name in ("files", "threads", "tasks")):
            return now
        before = now
    return before


async def answered(question: Callable[[Any, str], Awaitable[str]], client: Any) -> None:
    """Ask until there is an answer: on a starved machine the stack exceeds its own time limits."""
    while True:
        try:
            await question(client, "hello")
        except Exception as error:
            if "Timeout" not in type(error).__name__:
                raise
        else:
            return


async def fire(client: Any, requests: int) -> None:
    """Send requests, some at once, half of them streaming."""

    async def worker(number: int) -> None:
        for count in range(requests // AT_ONCE):
            await answered(ask_streaming if (number + count) % 2 else ask, client)

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(worker(number))


async def renew(
    manager: AzureEntraIDManager, emulators: Emulators, requests: int, renewals: int
) -> None:
    """Renew on a thread, evenly over this many requests."""
    accepted = emulators.azure.requests.accepted
    for number in range(renewals):
        while emulators.azure.requests.accepted < accepted + number * requests // renewals:  # noqa: ASYNC110 - another thread counts
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(manager.refresh_token)


@pytest.mark.parametrize(
    ("requests", "renewals"),
    [
        pytest.param(400, 40, id="short"),
        pytest.param(10_000, 1_000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
async def test_library_mode_under_fire(
    manager: AzureEntraIDManager,
    emulators: Emulators,
    stack_environment: None,
    requests: int,
    renewals: int,
) -> None:
    """No request fails while renewals happen, and nothing grows beyond what the stack costs."""
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(
        LlamaStackConfiguration(use_as_library_client=True, library_client_config_path=RUN_CONFIG)
    )
    client = holder.get_client()
    await fire(client, AT_ONCE * 5)  # what is built once is built now
    # Looking up a name takes a thread of the loop's own pool, which grows to its size: fill it.
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(64)))
    before = await settled()
    await fire(client, requests)
    middle = await settled()
    idle_cost = {name: value - before[name] for name, value in middle.items()}
    await asyncio.gather(fire(client, requests), renew(manager, emulators, requests, renewals))
    cost = {name: value - middle[name] for name, value in (await settled()).items()}
    await holder.close()
    seen = emulators.azure.requests
    assert seen.rejected == 0
    assert seen.accepted >= AT_ONCE * 5 + 2 * requests
    assert emulators.entra.requests.issued == renewals + 1
    assert len(seen.accepted_by_token) > renewals / 2
    # Requests alone, then as many with renewals: the difference is what renewals cost.
    allowed = 30 + renewals * FAMILY.files_per_token
    assert cost["files"] <= idle_cost["files"] + allowed, (cost, idle_cost)
    assert cost["threads"] <= idle_cost["threads"] + 2, (cost, idle_cost)
    assert cost["tasks"] <= idle_cost["tasks"] + 2, (cost, idle_cost)
    assert cost["memory"] <= idle_cost["memory"] + 20_000, (cost, idle_cost)
