"""A stack inside the process under fire: renewals and requests without end, and nothing grows.

The short form runs in every test run; the long one, with 1,000 renewals and 10,000 requests, by
`make soak`. What the stack itself costs is measured with its own client in the same run.
"""

import asyncio
import gc
import os
import threading
import time
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


async def fire(client: Any, requests: int) -> None:
    """Send requests, some at once, half of them streaming."""

    async def worker(number: int) -> None:
        for count in range(requests // AT_ONCE):
            await (ask_streaming if (number + count) % 2 else ask)(client, "hello")

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(worker(number))


async def renew(manager: AzureEntraIDManager, renewals: int) -> None:
    """Renew over and over, on a thread, while requests are sent."""
    for _ in range(renewals):
        assert await asyncio.to_thread(manager.refresh_token)
        await asyncio.sleep(0.005)


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
    await ask(client, "hello")  # alone: the stack makes its tables at the first answer, racily
    await fire(client, AT_ONCE * 5)  # what is built once is built now
    # Looking up a name takes a thread of the loop's own pool, which grows to its size: fill it.
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(64)))
    before = await usage()
    await fire(client, requests)
    idle_cost = {name: value - before[name] for name, value in (await usage()).items()}
    middle = await usage()
    await asyncio.gather(fire(client, requests), renew(manager, renewals))
    cost = {name: value - middle[name] for name, value in (await usage()).items()}
    await holder.close()
    seen = emulators.azure.requests
    assert seen.rejected == 0
    assert seen.accepted == 1 + AT_ONCE * 5 + 2 * requests
    assert emulators.entra.requests.issued == renewals + 1
    assert len(seen.accepted_by_token) > renewals / 10
    # Requests alone, then as many with renewals: the difference is what renewals cost.
    allowed = 30 + renewals * FAMILY.files_per_token
    assert cost["files"] <= idle_cost["files"] + allowed, (cost, idle_cost)
    assert cost["threads"] <= idle_cost["threads"] + 2, (cost, idle_cost)
    assert cost["tasks"] <= idle_cost["tasks"] + 2, (cost, idle_cost)
    assert cost["memory"] <= idle_cost["memory"] + 20_000, (cost, idle_cost)
