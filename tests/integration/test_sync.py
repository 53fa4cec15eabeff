"""Synchronous clients of the stack, in both modes, from threads and from a running event loop."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from canary import Canary
from fake_stack import BASE_URL, answering, headers_of, redirecting, serving, stack
from families import FAMILY, OGX
from integration_support import MODEL, RUN_CONFIG, broken_run_config, entra_block

from lightspeed_azure import (
    AzureEntraIDManager,
    LlamaStackClientHolder,
    LlamaStackConfiguration,
    OgxClientHolder,
    ProviderDataError,
    StackUnavailableError,
    TokenUnavailableError,
)
from lightspeed_azure.concurrency.loop_thread import portal
from lightspeed_azure.emulators import Emulators, Fault

pytestmark = pytest.mark.integration

HEADER = FAMILY.header.lower()
SCRIPT = Path(__file__).parents[1] / "support" / "synchronous_script.py"
HELLO = [{"role": "user", "content": "hello"}]


def ask(client: Any, question: str) -> str:
    """Ask a plain question."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}]
    )
    return str(answer.choices[0].message.content)


def ask_streaming(client: Any, question: str) -> str:
    """Ask a question and put its streamed answer together."""
    chunks = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True
    )
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def respond(client: Any, question: str) -> str:
    """Ask for a plain response."""
    answer = client.responses.create(model=MODEL, input=question)
    return "".join(part.text for item in answer.output for part in item.content)


def respond_streaming(client: Any, question: str) -> str:
    """Ask for a streamed response; it must end well."""
    events = list(client.responses.create(model=MODEL, input=question, stream=True))
    assert [event.type for event in events].count("response.created") == 1
    assert events[-1].type == "response.completed"
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


ASKING = (ask, ask_streaming, respond, respond_streaming)


@pytest.fixture
def holder(
    manager: AzureEntraIDManager, stack_config: LlamaStackConfiguration
) -> Iterator[LlamaStackClientHolder]:
    """A holder with its client loaded, in each mode."""
    with LlamaStackClientHolder.isolated(manager=manager) as instance:
        instance.load(stack_config)
        yield instance


def class_names(kind: type) -> set[str]:
    """Return the full names of a class and all those it comes from."""
    return {f"{each.__module__}.{each.__name__}" for each in kind.__mro__} | {
        f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in kind.__mro__
    }


def test_the_stacks_own_client_asks_in_every_way(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """Plain and streamed, chat and responses: answered with one token; nothing is fetched before."""
    client = holder.get_client()
    assert FAMILY.synchronous[holder.is_library_client] in class_names(type(client))
    assert (emulators.entra.requests.requested, emulators.azure.requests.total) == (0, 0)
    for question in ASKING:
        assert "hello" in question(client, "hello")
    assert emulators.azure.requests.rejected == 0
    assert emulators.entra.requests.issued == 1


def test_threads_share_one_client_and_one_token(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """40 threads at once, without a token at hand, make one request to Entra ID."""
    client = holder.get_client()
    ask(client, "first")  # alone: the stack makes its tables at the first answer, racily
    emulators.azure.revoke_all_issued_before_now()

    def question(number: int) -> bool:
        return f"number {number}" in ASKING[number % 2](client, f"number {number}")

    with ThreadPoolExecutor(40) as threads:
        assert all(threads.map(question, range(40)))
    assert emulators.entra.requests.issued == 2


async def test_a_running_event_loop_may_wait_for_it(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """A synchronous call on a loop's own thread answers, and does not lock up."""
    assert "hello" in ask(holder.get_client(), "hello")
    assert "hello" in ask_streaming(holder.get_client(), "hello")


@pytest.mark.parametrize("question", ASKING)
def test_a_refused_token_is_renewed_and_the_request_repeated(
    holder: LlamaStackClientHolder, emulators: Emulators, question: Callable[[Any, str], str]
) -> None:
    """When Azure refuses a token before its time, the caller never learns of it."""
    client = holder.get_client()
    ask(client, "before")
    emulators.azure.revoke_all_issued_before_now()
    assert "after" in question(client, "after")
    assert emulators.entra.requests.issued == 2


def test_a_refusal_that_stays_is_the_stacks_own_error(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """A token that Azure refuses twice is given up."""
    emulators.azure.audiences = ["https://another.example"]
    with pytest.raises(Exception, match="401") as caught:
        ask(holder.get_client(), "refused")
    status = getattr(caught.value, "status_code", None) or getattr(caught.value, "status", None)
    assert status == 401
    assert emulators.azure.requests.rejected == 2


def test_without_a_token_nothing_is_sent(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """The caller gets the typed error at once: the client repeats nothing."""
    emulators.entra.fault(Fault.status(503))
    with pytest.raises(TokenUnavailableError):
        ask(holder.get_client(), "hello")
    assert emulators.azure.requests.total == 0


def test_update_azure_token_shows_it_and_the_old_client_works_on(
    holder: LlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """It is held from then on; listing models with it carries no token all the same."""
    old = holder.get_client()
    new = holder.update_azure_token()
    assert new is not old
    assert holder.get_client() is new
    assert shown(old) == {}
    assert shown(new) == {
        "azure_api_key": manager.access_token.get_secret_value(),
        "azure_api_base": emulators.azure.base_url,
    }
    assert MODEL in [model.id for model in listed(new.models.list())]
    assert "/models" not in emulators.azure.requests.by_path
    emulators.azure.revoke_all_issued_before_now()
    assert "old" in ask(old, "old")
    assert "new" in ask(new, "new")


def test_the_base_url_is_that_of_the_stacks_azure_provider(
    holder: LlamaStackClientHolder, manager: AzureEntraIDManager, emulators: Emulators
) -> None:
    """The stack says it, and the manager learns it."""
    assert holder.get_azure_base_url() == emulators.azure.base_url
    assert manager.azure_base_url == emulators.azure.base_url


def test_the_callers_own_provider_data_must_be_an_object(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """What is not is the caller's typed error, at once; an object in any spelling is merged."""
    client = holder.get_client()
    create = client.chat.completions.create
    with pytest.raises(ProviderDataError):
        create(model=MODEL, messages=HELLO, **{FAMILY.headers: {FAMILY.header: "nope"}})
    assert emulators.azure.requests.total == 0
    create(model=MODEL, messages=HELLO, **{FAMILY.headers: {HEADER.upper(): '{"a_key": "b"}'}})
    assert emulators.azure.requests.accepted == 1


async def test_defaults_and_data_of_the_call_are_merged(manager: AzureEntraIDManager) -> None:
    """One header of the family's own arrives, in which the call beats the default."""
    sent: list[dict[str, Any]] = []

    async def recorded(request: web.BaseRequest) -> web.StreamResponse:
        assert sum("provider-data" in name for name in headers_of(request)) == 1
        sent.append(json.loads(headers_of(request)[HEADER]))
        return await answering(request)

    def asked(url: str) -> None:
        with LlamaStackClientHolder.isolated(manager=manager) as holder:
            holder.load({"url": url})
            default = json.dumps({"x_key": "default", "y_key": "default", "azure_api_key": "old"})
            client = with_default(holder.get_client(), FAMILY.header, default)
            for name in (FAMILY.header, FAMILY.header.upper()):
                client.chat.completions.create(
                    model=MODEL, messages=HELLO, **{FAMILY.headers: {name: '{"x_key": "call"}'}}
                )

    async with serving(stack(recorded)) as url:
        await asyncio.to_thread(asked, url)
    token = manager.access_token.get_secret_value()
    ours = {"azure_api_key": token, "azure_api_base": BASE_URL}
    assert sent == [{"x_key": "call", "y_key": "default", **ours}] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_origin_gets_nothing(manager: AzureEntraIDManager, status: int) -> None:
    """Wherever the stack redirects to, no provider data goes along, not even the caller's own."""
    seen: list[dict[str, str]] = []

    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(headers_of(request))
        return await answering(request)

    async with serving(elsewhere) as other:
        redirect = redirecting(status, f"{other}/v1/chat/completions")

        def asked(url: str) -> None:
            with LlamaStackClientHolder.isolated(manager=manager) as holder:
                holder.load({"url": url})
                client = holder.update_azure_token()
                client.chat.completions.create(
                    model=MODEL, messages=HELLO, **{FAMILY.headers: {HEADER: '{"x_key": "secret"}'}}
                )

        async with serving(stack(redirect)) as url:
            await asyncio.to_thread(asked, url)
    token = manager.access_token.get_secret_value()
    assert len(seen) == 1
    assert token not in str(seen)
    assert "secret" not in str(seen)


@pytest.mark.skipif(FAMILY is not OGX, reason="its client makes a field of what it does not know")
@pytest.mark.parametrize("shown", [False, True])
def test_headers_and_tokens_never_get_into_a_body(
    holder: LlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    *,
    shown: bool,
) -> None:
    """`extra_headers=`, and a token in a text, are a clear error; nothing is sent."""
    token = manager.get_token().get_secret_value()
    client = holder.update_azure_token() if shown else holder.get_client()
    for arguments in (
        {"extra_headers": {FAMILY.header: json.dumps({"azure_api_key": token})}},
        {"user": token},
    ):
        with pytest.raises(ProviderDataError, match="Nothing was sent") as caught:
            client.chat.completions.create(model=MODEL, messages=HELLO, **arguments)
        assert token not in str(caught.value)
    with pytest.raises(ProviderDataError, match="Nothing was sent"):
        client.models.list(extra_headers={HEADER: token})
    assert emulators.azure.requests.total == 0


def test_no_request_of_50_threads_fails_while_tokens_expire(
    holder: LlamaStackClientHolder, emulators: Emulators
) -> None:
    """A crowd asks through several lifetimes of a token; Azure accepts every single request."""
    emulators.entra.token_lifetime = 8.0  # so 0.8 s on the way do no harm, on a busy machine
    client = holder.get_client()
    ask(client, "first")

    def crowd(number: int) -> int:
        asked = 0
        while not asked or len(emulators.azure.requests.accepted_by_token) < 3:
            assert f"number {number}" in ASKING[number % 2](client, f"number {number}")
            asked += 1
            time.sleep(0.4)
        return asked

    with ThreadPoolExecutor(50) as threads:
        asked = sum(threads.map(crowd, range(50)))
    seen = emulators.azure.requests
    assert seen.rejected == 0, seen.by_reason
    assert seen.accepted == asked + 1 > 50


def test_a_stream_is_left_early(holder: LlamaStackClientHolder, emulators: Emulators) -> None:
    """Streams come piece by piece; one that is closed lets go of what it holds."""
    client = holder.get_client()
    ask(client, "first")
    emulators.azure.chunk_interval = 60.0
    before = threading.active_count()
    for _ in range(3):
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        next(iter(stream))
        stream.close()
    assert threading.active_count() <= before + 3
    emulators.azure.chunk_interval = 0.0
    assert "hello" in ask(client, "hello")


def test_a_stack_that_does_not_start_is_tried_again(
    manager: AzureEntraIDManager, stack_environment: None
) -> None:
    """A typed error each time; nothing is held."""
    holder = LlamaStackClientHolder.isolated(manager=manager)
    with pytest.raises(StackUnavailableError, match="load"):
        holder.get_client()
    broken = {"use_as_library_client": True, "library_client_config_path": broken_run_config()}
    with pytest.raises(StackUnavailableError):
        holder.load(broken)
    assert not holder.is_loaded
    with pytest.raises(StackUnavailableError):
        holder.ensure_loaded()
    holder.close()


def test_a_closed_holder_stays_closed(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """Its client sends no more; loading anew gives another."""
    holder = LlamaStackClientHolder.isolated(manager=manager)
    holder.load({"url": stack_url})
    client = holder.get_client()
    assert "hello" in ask(client, "hello")
    holder.close()
    assert not holder.is_loaded
    with pytest.raises(Exception, match=r"closed|Connection"):
        ask(client, "hello")
    holder.load({"url": stack_url})
    assert "again" in ask(holder.get_client(), "again")
    holder.close()


async def test_holders_that_are_dropped_let_go(manager: AzureEntraIDManager) -> None:
    """Whoever closes nothing leaves no connection behind, once nobody has the holder any more."""

    def dropped(url: str) -> tuple[set[int], list[Any]]:
        before = set(portal().held)
        holder = LlamaStackClientHolder.isolated(manager=manager)
        clients = []
        for _ in range(2):  # a client that is replaced is dropped, too
            holder.load({"url": url})
            assert ask(holder.get_client(), "hello") == "hi"
            clients.append(weakref.ref(holder.get_client()))
        return set(portal().held) - before, [weakref.ref(holder), *clients]

    async with serving(stack(answering)) as url:
        made, things = await asyncio.to_thread(dropped, url)
        gc.collect()
        assert made
        assert [thing() for thing in things] == [None] * 3
        assert made.isdisjoint(portal().held)


def test_a_forked_child_waits_for_no_thread_of_its_parent(
    manager: AzureEntraIDManager, stack_url: str, emulators: Emulators
) -> None:
    """A holder that was being changed when its process forked can be used in the child."""
    with LlamaStackClientHolder.isolated(manager=manager) as holder:
        holder.load({"url": stack_url})
        ask(holder.get_client(), "parent")
        emulators.azure.revoke_all_issued_before_now()
        manager.identity().cache.invalidate(manager.access_token)
        emulators.entra.fault(Fault.delay(1.0))
        changing = threading.Thread(target=holder.update_azure_token)
        changing.start()
        while emulators.entra.requests.requested < 2:
            time.sleep(0.01)
        with warnings.catch_warnings(
            action="ignore"
        ):  # a process with threads forks: that is meant
            child = os.fork()
        if child == 0:
            signal.alarm(20)  # the end of one that waits for ever
            try:
                assert "child" in ask(holder.update_azure_token(), "child")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        changing.join()


def run_script(
    config: LlamaStackConfiguration, emulators: Emulators, *, limit: float = 100
) -> tuple[list[str], str]:
    """Run the script; return who was answered, and all that it said."""
    block = {name: str(value) for name, value in entra_block(emulators).items()}
    block["client_secret"] = emulators.entra.application.client_secret.get_secret_value()
    given = {"llama_stack": config.model_dump(mode="json"), "azure_entra_id": block}
    result = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answered = [line for line in result.stderr.splitlines() if line.startswith("answered")]
    assert emulators.azure.requests.rejected == 0
    return [line.split()[1] for line in answered], result.stderr


def test_a_script_forks_and_ends_by_itself(stack_url: str, emulators: Emulators) -> None:
    """The child asks over connections of its own; late threads are served; nothing is closed."""
    answered, said = run_script(LlamaStackConfiguration(url=stack_url), emulators)
    assert answered == ["first", "child", "parent", "late"], said
    assert "Traceback" not in said
    assert "ResourceWarning" not in said


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_script_with_the_stack_inside_forks_and_ends_by_itself(
    stack_environment: None, emulators: Emulators
) -> None:
    """The child starts a stack of its own; nobody closes the two. Takes 10 s."""
    answered, _ = run_script(
        LlamaStackConfiguration(use_as_library_client=True, library_client_config_path=RUN_CONFIG),
        emulators,
        limit=600,
    )
    assert answered[:3] == ["first", "child", "parent"]


def test_the_canary(
    holder: LlamaStackClientHolder,
    manager: AzureEntraIDManager,
    emulators: Emulators,
    canary: Canary,
) -> None:
    """Neither a client, nor an error with its frames, nor what is logged shows a token."""
    client = holder.get_client()
    ask(client, "hello")
    canary.watch(first=manager.access_token.get_secret_value())
    updated = holder.update_azure_token()
    emulators.azure.revoke_all_issued_before_now()
    respond_streaming(updated, "hello")
    canary.watch(second=manager.access_token.get_secret_value())
    emulators.azure.audiences = ["https://another.example"]
    with pytest.raises(Exception, match="401") as refused:
        ask(updated, "refused")
    canary.watch(third=manager.access_token.get_secret_value())
    canary.read_error("refused", refused.value)
    with pytest.raises(ProviderDataError) as bad:
        updated.chat.completions.create(
            model=MODEL, messages=HELLO, **{FAMILY.headers: {HEADER: "nope"}}
        )
    canary.read_error("bad data", bad.value)
    canary.read(holder=holder, client=client, updated=updated)


def test_the_singleton_is_one() -> None:
    """`LlamaStackClientHolder()` is process-wide, and its alias the same."""
    assert LlamaStackClientHolder() is OgxClientHolder()
    other = LlamaStackClientHolder.isolated()
    with LlamaStackClientHolder.replaced(other):
        assert LlamaStackClientHolder() is other


def with_default(client: Any, name: str, value: str) -> Any:
    """Return a client that sends a header by default."""
    if hasattr(client, "copy"):
        return client.copy(default_headers={name: value})
    client.api_client.set_default_header(name, value)
    return client


def listed(answer: Any) -> list[Any]:
    """Return the entries of a list."""
    return list(getattr(answer, "data", answer))


def shown(client: Any) -> dict[str, Any]:
    """Return the provider data that a client shows to someone who looks for it."""
    data = getattr(client, "provider_data", None)
    if data is not None:
        return dict(data)
    return dict(json.loads(FAMILY.defaults(client).get(FAMILY.header, "{}")))
