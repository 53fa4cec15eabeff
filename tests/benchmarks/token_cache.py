"""What the token cache costs, as ratios against peers measured in the same run.

Run `python tests/benchmarks/token_cache.py`. Only proportions mean anything on a busy machine. The
peers: azure-identity's asynchronous bearer token provider and its credentials, with a transport that
answers from memory; and lightspeed-stack's own token manager, from its wheel, which is fetched into
a temporary directory (where that cannot be done the row says "not available").
"""

import asyncio
import functools
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import types
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Self

from azure.identity import ClientSecretCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from azure.identity.aio import get_bearer_token_provider
from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.errors import TokenError, TokenUnavailableError
from lightspeed_azure.tokens.cache import TokenCache
from lightspeed_azure.tokens.identity import Identity
from lightspeed_azure.tokens.lifetime import Token
from lightspeed_azure.tokens.manager import AzureEntraIDManager
from lightspeed_azure.tokens.source import Attempt, IssuedToken

SCOPE = "https://cognitiveservices.azure.com/.default"
BASE_URL = "https://example.openai.azure.com/openai/v1"
SECRET = "e30." + "x" * 2000 + ".signature"  # as long as Entra's tokens are
WHO = {"tenant_id": "tenant", "client_id": "client", "client_secret": "not a secret"}
WHEEL = "lightspeed-stack==0.7.1"
FETCH = 0.3


class Response:
    """As much of an azure-core response as azure-identity reads."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = json.dumps(body)
        self.status_code = 200
        self.headers = {"content-type": "application/json"}
        self.content_type = "application/json"
        self.reason = "OK"

    def text(self, encoding: str | None = None) -> str:
        """Return the body."""
        return self._body if encoding else str(self._body)

    def body(self) -> bytes:
        """Return the body."""
        return self._body.encode()


class Transport:
    """Entra ID in memory: the token endpoint blocks for a while, as a slow network would."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def open(self) -> None:
        """Nothing is to be opened."""

    def close(self) -> None:
        """Nothing is to be closed."""

    def send(self, request: Any, **_: object) -> Response:
        """Answer discovery at once and token requests after the delay."""
        if request.method == "GET":
            authority = request.url.split("/v2.0")[0].split("/common")[0]
            return Response(
                {
                    "issuer": authority,
                    "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{authority}/oauth2/v2.0/token",
                    "tenant_discovery_endpoint": request.url,
                    "metadata": [],
                }
            )
        time.sleep(self._delay)
        return token_response()


class AsyncTransport:
    """The same for azure-identity's asynchronous credentials, without delay."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def close(self) -> None:
        """Nothing is to be closed."""

    async def send(self, _request: Any, **_: object) -> Response:
        """Answer token requests."""
        return token_response()


def token_response() -> Response:
    """Return the token endpoint's answer."""
    return Response({"token_type": "Bearer", "access_token": SECRET, "expires_in": 3600})


class Source:
    """A source of tokens that counts, and does what it is told."""

    def __init__(self, fetch: Callable[[int], IssuedToken]) -> None:
        self.requests = 0
        self._fetch = fetch

    def __call__(self, attempt: Attempt) -> IssuedToken:
        """Fetch a token."""
        assert attempt.timeout > 0
        self.requests += 1
        return self._fetch(self.requests)

    def fingerprint(self) -> object:
        """Return that nothing changes."""
        return None


def issued(number: int, lifetime: float = 3600.0) -> IssuedToken:
    """Return a token."""
    return IssuedToken(SecretStr(f"{SECRET}{number}"), lifetime)


def row(what: str, measured: str, asked: str) -> None:
    """Print one row."""
    print(f"{what:<70} {measured:<34} (asked: {asked})", flush=True)


# What a fresh token costs.


def per_call(call: Callable[[], object], number: int = 200_000) -> float:
    """Return the seconds that a call takes, its loop included."""
    return min(timeit.repeat(call, number=number, repeat=7)) / number


def per_await(call: Callable[[], Awaitable[object]], number: int = 20_000) -> float:
    """Return the seconds that an awaited call takes, its loop included."""

    async def measure() -> float:
        await call()
        best = float("inf")
        for _ in range(7):
            began = time.perf_counter()
            for _ in range(number):
                await call()
            best = min(best, time.perf_counter() - began)
        return best / number

    return asyncio.run(measure())


class Thing:
    """Something with an attribute, read through a method."""

    def __init__(self) -> None:
        self._value = object()

    def value(self) -> object:
        """Return the attribute."""
        return self._value


class InMemoryCredential:
    """A custom credential that gives a token without a request."""

    def get_token(self, *_scopes: str) -> Any:
        """Return a token that lives an hour."""
        return types.SimpleNamespace(token=SECRET, expires_on=time.time() + 3600)


def fresh() -> None:
    """Measure the fresh path, sync and async, against its peers."""
    cache = TokenCache(Source(issued))
    identity = Identity(AzureEntraIdConfiguration.model_validate(WHO), cache)

    async def bearer() -> Callable[[], Awaitable[str]]:
        credential = AsyncClientSecretCredential(**WHO, transport=AsyncTransport())
        return get_bearer_token_provider(credential, SCOPE)

    async def peer() -> Callable[[], Awaitable[str]]:
        provider = await bearer()

        async def ask() -> str:
            return json.dumps({"azure_api_key": await provider(), "azure_api_base": BASE_URL})

        return ask

    reader = identity.reader(BASE_URL)
    theirs = per_await(asyncio.run(peer()))
    attribute = per_call(Thing().value)
    for what, awaited, called in (
        ("Identity.reader", reader.aget, reader.get),
        (
            "Identity.header",
            functools.partial(identity.aheader, BASE_URL),
            functools.partial(identity.header, BASE_URL),
        ),
    ):
        ours, sync = per_await(awaited), per_call(called)
        row(
            f"fresh token + header, {what}, awaited: azure-identity's",
            f"{theirs / ours:.1f} x ours ({theirs * 1e9:.0f} / {ours * 1e9:.0f} ns)",
            ">= 25",
        )
        row(
            f"fresh token + header, {what}, called: azure-identity's",
            f"{theirs / sync:.1f} x ours ({theirs * 1e9:.0f} / {sync * 1e9:.0f} ns)",
            ">= 25",
        )
        row(
            f"token + header, {what}, called: one attribute by a method",
            f"{sync / attribute:.1f} x that ({sync * 1e9:.0f} / {attribute * 1e9:.0f} ns)",
            "<= 10",
        )
    provider_alone = per_await(asyncio.run(bearer()))
    manager = AzureEntraIDManager.isolated({"credential": f"{__name__}:InMemoryCredential"})
    manager.get_token()
    ours = per_await(manager.aget_token)
    row(
        "fresh token, manager.aget_token(), awaited: azure-identity's provider",
        f"{provider_alone / ours:.1f} x ours ({provider_alone * 1e9:.0f} / {ours * 1e9:.0f} ns)",
        ">= 40",
    )
    get = per_call(cache.get)
    row(
        "token alone, called: one attribute by a method",
        f"{get / attribute:.1f} x that ({get * 1e9:.0f} / {attribute * 1e9:.0f} ns)",
        "<= 10",
    )


# What the event loop feels.


async def lag_during(renew: Callable[[], Awaitable[object]]) -> float:
    """Return the longest time that the event loop stood still while `renew` ran."""
    worst = 0.0
    done = False

    async def tick() -> None:
        nonlocal worst
        while not done:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began - 0.001)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    worst = 0.0
    await renew()
    await asyncio.sleep(0.002)
    done = True
    await ticking
    return worst


def lag() -> None:
    """Measure the event loop's lag while a fetch blocks, against lightspeed-stack's manager."""

    def fetch(_number: int) -> IssuedToken:
        credential = ClientSecretCredential(**WHO, transport=Transport(FETCH))
        return IssuedToken(SecretStr(credential.get_token(SCOPE).token), 3600.0)

    cache = TokenCache(Source(fetch))
    fetch(0)  # what is imported late is imported now, for both
    ours = median(asyncio.run(lag_during(cache.arefresh)) for _ in range(7))
    what = "event-loop lag while a fetch blocks for 300 ms: lightspeed-stack's"
    try:
        with their_manager() as manager:

            async def theirs_renew() -> None:
                assert manager.refresh_token()

            theirs = median(asyncio.run(lag_during(theirs_renew)) for _ in range(5))
    except (OSError, subprocess.SubprocessError, ImportError) as error:
        row(what, f"not available ({type(error).__name__}); ours {ours * 1e3:.2f} ms", ">= 50")
        return
    row(what, f"{theirs / ours:.0f} x ours ({theirs * 1e3:.0f} / {ours * 1e3:.2f} ms)", ">= 50")


@contextmanager
def their_manager() -> Iterator[Any]:
    """Fetch lightspeed-stack's wheel and yield its manager, with a credential that answers slowly.

    The module file is theirs, unchanged; of what it imports, the three names from their other
    modules are stood in, because those bring the whole service with them.
    """
    with tempfile.TemporaryDirectory() as directory:
        pip = shutil.which("pip")
        command = [pip] if pip else [sys.executable, "-m", "pip"]
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "-q", "-d"]
        subprocess.run(  # a fixed command
            [*command, "download", WHEEL, *options, directory],
            check=True,
            timeout=120,
            capture_output=True,
        )
        wheel = next(Path(directory).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract("authorization/azure_token_manager.py", directory))
        stand_ins: dict[str, dict[str, Any]] = {
            "configuration": {"AzureEntraIdConfiguration": object},
            "log": {"get_logger": logging.getLogger},
            "utils": {},
            "utils.types": {"Singleton": type},
        }
        for name, names in stand_ins.items():
            module = types.ModuleType(name)
            module.__dict__.update(names)
            sys.modules[name] = module
        try:
            spec = importlib.util.spec_from_file_location("their_azure_token_manager", path)
            assert spec is not None
            assert spec.loader is not None
            theirs: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(theirs)
        finally:
            for name in stand_ins:
                del sys.modules[name]
        theirs.ClientSecretCredential = functools.partial(
            ClientSecretCredential, transport=Transport(FETCH)
        )
        manager = theirs.AzureEntraIDManager()
        secrets = {name: SecretStr(value) for name, value in WHO.items()}
        manager.set_config(types.SimpleNamespace(**secrets, scope=SCOPE))
        yield manager


# What Entra ID sees, and what callers feel.


def crowd(cache: TokenCache, coroutines: int = 1000, threads: int = 50) -> list[object]:
    """Return what 1,000 coroutines in two event loops and 50 threads get, all asking at once."""
    go = threading.Barrier(threads + 2)

    def one() -> Token | TokenError:
        go.wait()
        try:
            return cache.get()
        except TokenError as error:
            return error

    async def many() -> list[object]:
        go.wait()
        asked = (cache.aget() for _ in range(coroutines // 2))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    with ThreadPoolExecutor(threads + 2) as pool:
        loops = [pool.submit(asyncio.run, many()) for _ in range(2)]
        singles = [pool.submit(one) for _ in range(threads)]
        return [s.result() for s in singles] + [each for loop in loops for each in loop.result()]


def requests() -> None:
    """Count token requests for a crowd at expiry, in good weather and in an outage."""

    def slow(number: int) -> IssuedToken:
        time.sleep(FETCH)
        return issued(number)

    source = Source(slow)
    cache = TokenCache(source)
    cache.invalidate(cache.get().secret)
    before = source.requests
    got = crowd(cache)
    assert all(isinstance(each, Token) for each in got)
    row(
        "token requests for 1,000 coroutines + 50 threads at expiry",
        f"{source.requests - before} ({len({id(each) for each in got})} token)",
        "1",
    )

    def down(_number: int) -> IssuedToken:
        time.sleep(0.02)
        raise TokenUnavailableError("503")

    source = Source(down)
    cache = TokenCache(source, logger=logging.getLogger("quiet"))
    end = time.monotonic() + 5
    callers = 0
    pauses: set[float] = set()
    while time.monotonic() < end:
        callers += len(crowd(cache))
        rest = cache.status().next_attempt
        if rest:
            pauses.add(round(time.monotonic() + rest, 2))
    steps = len({round(pause, 1) for pause in pauses}) or 1
    row(
        "token requests in 5 s of 503, the same crowd again and again",
        f"{source.requests} for {callers} callers, {steps} steps seen",
        "<= 1 a step",
    )


def outage() -> None:
    """Count requests that failed or waited in an outage that ends just before expiry."""
    began = time.monotonic()

    def fetch(number: int) -> IssuedToken:
        if 0.5 < time.monotonic() - began < 8.0:
            time.sleep(0.2)
            raise TokenUnavailableError("503")
        time.sleep(0.02)
        return issued(number, 10.0)

    source = Source(fetch)
    cache = TokenCache(source, logger=logging.getLogger("quiet"))
    cache.get()
    asked = failed = delayed = 0
    while time.monotonic() - began < 11:
        before = time.perf_counter()
        try:
            cache.get()
        except TokenError:
            failed += 1
        delayed += time.perf_counter() - before > 0.05
        asked += 1
        time.sleep(0.0005)
    row(
        "requests failed / delayed over 50 ms, outage to 1 s before the end",
        f"{failed} / {delayed} of {asked}, {source.requests} token requests",
        "0 / 0",
    )


def wake_up() -> None:
    """Measure what 10,000 coroutines that wait for one refresh do to their event loop."""

    def slow(number: int) -> IssuedToken:
        time.sleep(FETCH)
        return issued(number)

    cache = TokenCache(Source(slow))

    async def wait_for(make: Callable[[], Awaitable[object]]) -> float:
        left = 10_000
        done = asyncio.Event()

        async def ask() -> None:
            nonlocal left
            await make()
            left -= 1
            if not left:
                done.set()

        crowd = [asyncio.create_task(ask()) for _ in range(left)]
        await asyncio.sleep(FETCH / 2)  # all of them wait now, and the loop is idle
        lagged = await lag_during(done.wait)
        await asyncio.wait(crowd)
        return lagged

    async def naive() -> float:
        loop = asyncio.get_running_loop()
        shared = loop.run_in_executor(None, slow, 1)
        return await wait_for(lambda: asyncio.shield(shared))

    ours = asyncio.run(wait_for(cache.aget))
    theirs = asyncio.run(naive())
    row(
        "longest stall while 10,000 coroutines wake: one shielded future's",
        f"{theirs / ours:.1f} x ours ({theirs * 1e3:.0f} / {ours * 1e3:.0f} ms)",
        "no starving",
    )


if __name__ == "__main__":
    logging.getLogger("quiet").disabled = True
    fresh()
    lag()
    requests()
    outage()
    wake_up()
