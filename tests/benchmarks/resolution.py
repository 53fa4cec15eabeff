"""What the resolution hook costs, as ratios against the same look-up without it, in the same run.

Run `python tests/benchmarks/resolution.py`; it ends with 1 when a ratio is over its limit. Only
proportions mean anything on a busy machine: both sides are measured in turn, and the fastest
counts.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from lightspeed_azure.keys import (
    PASS,
    Answer,
    HookCall,
    aget_api_key,
    extensible,
    get_api_key,
    registered,
    resolve_credential,
)

ROUNDS = 30
CALLS = 3000


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that some calls take."""
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - started


def awaited(call: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that some awaited calls take."""

    async def run() -> float:
        started = time.perf_counter()
        for _ in range(CALLS):
            await call()
        return time.perf_counter() - started

    return asyncio.run(run())


def ratio(measure: Callable[..., float], one: object, other: object) -> float:
    """Return how many times as long `one` takes as `other`."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for number, call in enumerate((one, other)):
            best[number] = min(best[number], measure(call))
    return best[0] / best[1]


def main() -> int:
    """Measure, print, and say whether a limit was broken."""
    os.chdir(tempfile.mkdtemp())
    os.environ["OPENAI_API_KEY"] = "an-invented-key"
    file = Path("apitoken")
    file.write_text("an-invented-key")

    def plain(number: int) -> int:
        return number

    hooked = extensible(plain)
    bare, abare = get_api_key.__wrapped__, aget_api_key.__wrapped__  # type: ignore[attr-defined]
    results = [
        (
            "no resolver, sync: with the hook / without",
            ratio(seconds, lambda: get_api_key("openai"), lambda: bare("openai")),
            1.3,
        ),
        (
            "no resolver, async: with the hook / without",
            ratio(awaited, lambda: aget_api_key("openai"), lambda: abare("openai")),
            1.3,
        ),
        (
            "no resolver: what the hook adds / opening and reading one file",
            ratio(seconds, lambda: hooked(1), lambda: file.open("rb").read())
            - ratio(seconds, lambda: plain(1), lambda: file.open("rb").read()),
            0.05,
        ),
    ]

    def answer(question: HookCall) -> object:
        return Answer(question.provider_id) if question.provider_id == "openai" else PASS

    with registered(answer, ttl=3600):
        kept = ratio(
            seconds,
            lambda: resolve_credential("openai", "openai_api_key"),
            lambda: file.open("rb").read(),
        )
    results.append(("an answer that is kept / opening and reading one file", kept, 3.0))
    for what, found, limit in results:
        print(f"{'ok ' if found <= limit else 'BAD'} {found:5.2f} (at most {limit:.2f})  {what}")
    return int(any(found > limit for _, found, limit in results))


if __name__ == "__main__":
    sys.exit(main())
