"""Which provider serves a model: as the stack says, not as the name looks."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

from lightspeed_azure.clients.stack_catalog import (
    ANSWER_LIMIT,
    ASK_AHEAD,
    BELIEVED_FOR,
    Listing,
    Provider,
    StackCatalog,
)
from lightspeed_azure.errors import StackUnavailableError

LISTING = Listing(
    models={
        "azure/gpt-4o": "azure",
        "my-aoai/gpt-4o": "my-aoai",
        "azureml/phi": "azureml",
        "alias": "azure",
    },
    providers={
        name: Provider(name, kind, base_url)
        for name, kind, base_url in (
            ("azure", "remote::azure", "https://a/openai/v1"),
            ("my-aoai", "remote::azure", None),
            ("azure/eu", "remote::azure", "https://eu"),
            ("azureml", "remote::vllm", None),
        )
    },
)


class Stack:
    """Counts how often it is asked."""

    def __init__(self, listing: Listing = LISTING) -> None:
        self.listing = listing
        self.asked = 0
        self.now = 0.0

    async def ask(self) -> Listing:
        """Answer, after others had a turn."""
        self.asked += 1
        await asyncio.sleep(0)
        return self.listing

    def catalog(self) -> StackCatalog:
        """Return a catalog of this stack."""
        return StackCatalog(self.ask, monotonic=lambda: self.now)


@pytest.mark.parametrize(
    ("model", "provider_id"),
    [
        ("azure/gpt-4o", "azure"),
        ("my-aoai/gpt-4o", "my-aoai"),
        ("alias", "azure"),
        ("azure/not-registered", "azure"),
        ("azure/eu/not-registered", "azure/eu"),
        ("azureml/phi", "azureml"),
        ("azureml/not-registered", "azureml"),
        ("gpt-4o", None),
        ("", None),
    ],
)
async def test_the_stack_decides(model: str, provider_id: str | None) -> None:
    """Registered names, unregistered deployments of a provider, and look-alikes."""
    provider = await Stack().catalog().provider_of(model)
    assert (provider and provider.provider_id) == provider_id


async def test_it_is_asked_once_for_what_it_knows() -> None:
    """A crowd of first questions makes one question to the stack."""
    stack = Stack()
    catalog = stack.catalog()
    await asyncio.gather(*(catalog.provider_of("azure/gpt-4o") for _ in range(50)))
    assert stack.asked == 1
    azure = await catalog.azure_providers()
    assert [each.provider_id for each in azure] == ["azure", "my-aoai", "azure/eu"]


async def test_an_unknown_model_is_asked_about_again_but_not_all_the_time() -> None:
    """A model registered later is found; an invented one does not flood the stack."""
    stack = Stack()
    catalog = stack.catalog()
    await catalog.provider_of("azure/gpt-4o")
    stack.now = 10.0
    await asyncio.gather(*(catalog.provider_of("late") for _ in range(20)))
    assert stack.asked == 2
    stack.listing = Listing({"late": "azure"}, LISTING.providers)
    stack.now = 12.0
    found = await catalog.provider_of("late")
    assert found is not None
    assert found.provider_id == "azure"
    assert stack.asked == 3


async def test_a_stack_that_is_down_is_asked_again_next_time() -> None:
    """An error is not remembered."""
    stack = Stack()
    down = True

    async def ask() -> Listing:
        if down:
            raise StackUnavailableError("down")
        return await stack.ask()

    catalog = StackCatalog(ask)
    with pytest.raises(StackUnavailableError):
        await catalog.provider_of("azure/gpt-4o")
    down = False
    assert await catalog.provider_of("azure/gpt-4o") is not None


async def test_a_stack_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is bounded."""
    monkeypatch.setattr("lightspeed_azure.clients.stack_catalog.ANSWER_LIMIT", 0.0)

    async def never() -> Listing:
        await asyncio.Event().wait()
        return LISTING

    with pytest.raises(StackUnavailableError, match="did not say within"):
        await StackCatalog(never).provider_of("azure/gpt-4o")


async def test_a_model_that_moves_takes_no_key_to_its_new_provider() -> None:
    """The stack is asked again after a while; where it does not answer, what it said before counts."""
    stack = Stack()
    catalog = stack.catalog()
    for wanted in ("azureml", "my-aoai"):
        for _ in range(3):
            found = await catalog.provider_of("azureml/phi")
            assert found is not None
            assert found.provider_id == wanted
        stack.listing = Listing({"azureml/phi": "my-aoai"}, LISTING.providers)
        stack.now += BELIEVED_FOR
    assert stack.asked == 2

    async def broken() -> Listing:
        stack.asked += 1
        raise StackUnavailableError("down")

    catalog._ask = broken  # noqa: SLF001 - the stack goes down
    assert await catalog.provider_of("azureml/phi") == LISTING.providers["my-aoai"]
    assert await catalog.provider_of("azureml/phi") == LISTING.providers["my-aoai"]
    assert stack.asked == 3


async def test_where_requests_go_on_none_waits_for_the_stack_to_say_it_again() -> None:
    """In the time before the answer is too old the stack is asked once, behind the requests."""
    stack = Stack()
    catalog = stack.catalog()
    await catalog.provider_of("azureml/phi")
    answer = asyncio.Event()
    moved = Listing({"azureml/phi": "my-aoai"}, LISTING.providers)

    async def slow() -> Listing:
        stack.asked += 1
        await answer.wait()
        return moved

    catalog._ask = slow  # noqa: SLF001 - the stack takes its time
    stack.now += BELIEVED_FOR - ASK_AHEAD - 1
    for seconds in (0, 2, 2):
        stack.now += seconds
        found = await catalog.provider_of("azureml/phi")
        assert found == LISTING.providers["azureml"]
        await asyncio.sleep(0)
    assert stack.asked == 2
    answer.set()
    for _ in range(9):
        await asyncio.sleep(0)
    assert await catalog.provider_of("azureml/phi") == LISTING.providers["my-aoai"]
    stack.now += BELIEVED_FOR - ASK_AHEAD - 1
    await catalog.provider_of("azureml/phi")
    assert stack.asked == 2


class Hanging(Stack):
    """A stack that answers once, and then to nobody until it is well again."""

    def __init__(self) -> None:
        super().__init__()
        self.well = asyncio.Event()
        self.well.set()

    async def ask(self) -> Listing:
        """Answer when well."""
        self.asked += 1
        await self.well.wait()
        return self.listing


async def asked_behind(stack: Hanging) -> StackCatalog:
    """Return a catalog that asks the stack behind a request, and gets no answer."""
    catalog = stack.catalog()
    await catalog.provider_of("azureml/phi")
    stack.well.clear()
    stack.now += BELIEVED_FOR - 1
    assert await catalog.provider_of("azureml/phi") == LISTING.providers["azureml"]
    await asyncio.sleep(0)
    assert stack.asked == 2
    return catalog


async def test_a_failure_behind_is_no_requests() -> None:
    """No request meets it nor waits for it; what was said before counts no longer for it."""
    stack = Stack()
    catalog = stack.catalog()
    await catalog.provider_of("azureml/phi")
    moved = Listing({"azureml/phi": "my-aoai"}, LISTING.providers)

    async def broken() -> Listing:
        stack.asked += 1
        raise StackUnavailableError("down")

    well, catalog._ask = catalog._ask, broken  # noqa: SLF001 - the stack goes down
    stack.now += BELIEVED_FOR - ASK_AHEAD
    for seconds in (0, 1, ANSWER_LIMIT):
        stack.now += seconds
        assert await catalog.provider_of("azureml/phi") == LISTING.providers["azureml"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert stack.asked == 3
    catalog._ask, stack.listing = well, moved  # noqa: SLF001 - and comes back
    stack.now += ASK_AHEAD
    assert await catalog.provider_of("azureml/phi") == LISTING.providers["my-aoai"]


@pytest.mark.parametrize(
    ("later", "model"), [(1, "azureml/phi"), (0, "new")], ids=["too old", "an unknown model"]
)
async def test_a_request_that_must_know_asks_itself(later: float, model: str) -> None:
    """It does not wait for the one behind, which got no answer, nor share in its failure."""
    stack = Hanging()
    catalog = await asked_behind(stack)
    stack.now += later
    stack.listing = Listing({"azureml/phi": "my-aoai", "new": "my-aoai"}, LISTING.providers)
    stack.well = asyncio.Event()  # who asked before waits for ever
    stack.well.set()
    async with asyncio.timeout(1):
        assert await catalog.provider_of(model) == LISTING.providers["my-aoai"]
    assert stack.asked == 3


async def test_nothing_is_kept_of_the_request_behind_which_the_stack_was_asked() -> None:
    """Its context may hold what a caller showed."""
    shown: ContextVar[Stack] = ContextVar("shown")
    stack, caller = Stack(), Stack()
    kept = weakref.ref(caller)
    catalog = stack.catalog()
    await catalog.provider_of("azureml/phi")
    stack.now += BELIEVED_FOR - 1

    async def request(caller: Stack) -> None:
        shown.set(caller)
        await catalog.provider_of("azureml/phi")

    await asyncio.create_task(request(caller))
    for _ in range(9):
        await asyncio.sleep(0)
    assert stack.asked == 2
    del caller
    gc.collect()
    assert kept() is None


async def test_a_closed_catalog_asks_no_more() -> None:
    """What nobody waits for ends with the connections."""
    stack = Hanging()
    catalog = await asked_behind(stack)
    before = asyncio.all_tasks()
    catalog.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(before - asyncio.all_tasks()) == 1
