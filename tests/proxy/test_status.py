"""/status tells operators what is wrong, since when, and what to do; and holds no secret."""

import asyncio
import json
from typing import Any

import pytest
from token_cache_fakes import FakeClock
from watched import Credential, Source, watched

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.config.dependents import dependents_problems
from lightspeed_azure.errors import CredentialRejectedError
from lightspeed_azure.proxy.inbound import InboundStatus
from lightspeed_azure.proxy.status import StackState, Status, timestamp


class House:
    """A proxy whose parts the test puts into any state."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.source = Source()
        self.manager = (
            watched(self.clock, self.source, *names) if names else AzureEntraIDManager.isolated()
        )
        self.inbound = InboundStatus(
            "jwt", ready=True, keys=1, reloads=1, failures=0, last_error=""
        )
        self.stack = StackState(reachable=True)
        self.draining = False
        self.credentials: list[Credential] = []
        self.status = Status(
            self.manager,
            inbound=lambda: self.inbound,
            stack=lambda: self.stack,
            draining=lambda: self.draining,
            credentials=lambda: self.credentials,
            dependents=["solution-server", "Kai"],
            clock=self.clock.wall,
        )

    def conditions(self) -> dict[str, dict[str, str]]:
        """Return the conditions by their type, through JSON."""
        document = json.loads(json.dumps(self.status.as_json()))
        return {each.pop("type"): each for each in document["conditions"]}

    def ready(self) -> tuple[str, str]:
        """Return status and reason of LLMProxyReady."""
        condition = self.conditions()["LLMProxyReady"]
        return condition["status"], condition["reason"]

    def refuse(self) -> None:
        """Let the credential be refused from now on, and let somebody notice."""
        self.source.refuses = True
        for identity in self.manager.identities:
            with pytest.raises(CredentialRejectedError):
                identity.cache.refresh()


def test_every_name_is_written_as_kubernetes_writes_them() -> None:
    """A program that reads one part of the document can guess the names of the next."""

    def names(tree: object) -> list[str]:
        if isinstance(tree, list):
            return [name for each in tree for name in names(each)]
        if isinstance(tree, dict):
            return [*tree, *names(list(tree.values()))]
        return []

    house = House("azure")
    house.inbound = InboundStatus("jwt", ready=False, keys=0, reloads=0, failures=1, last_error="x")
    document = house.status.as_json()
    assert document["inbound"]["lastError"] == "x"
    assert [name for name in names(document) if "_" in name] == []


def test_when_all_is_well_every_condition_is_true() -> None:
    """The proxy, its keys, and each service that waits for it, as Kubernetes writes conditions."""
    house = House("azure")
    house.manager.identities[0].get_token()
    found = house.conditions()
    assert list(found) == ["LLMProxyReady", "APIKeysConfigured", "SolutionServerReady", "KaiReady"]
    for condition in found.values():
        assert condition["status"] == "True"
        assert condition["lastTransitionTime"] == "2023-11-14T22:13:20Z"
        assert condition["reason"].isalnum()
        assert condition["message"]


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda house: setattr(house, "draining", True), "False", "Draining"),
        (
            lambda house: setattr(house, "inbound", InboundStatus("jwt", False, 0, 0, 3, "why")),
            "False",
            "InboundKeysUnavailable",
        ),
        (
            lambda house: setattr(house, "stack", StackState(False, "down")),
            "False",
            "StackUnreachable",
        ),
        (lambda house: setattr(house, "stack", StackState()), "Unknown", "WaitingForStack"),
        (lambda house: house.refuse(), "True", "Degraded"),
    ],
    ids=["draining", "inbound", "stack down", "stack unknown", "renewals fail"],
)
def test_what_stands_in_the_way_is_the_reason(change: Any, status: str, reason: str) -> None:
    """With a token at hand; and who depends on the proxy waits for it, unless it is ready."""
    house = House("azure")
    house.manager.identities[0].get_token()
    assert house.ready() == ("True", "Ready")
    change(house)
    assert house.ready() == (status, reason)
    waiting = house.conditions()["SolutionServerReady"]
    if status == "True":
        assert (waiting["status"], waiting["reason"]) == ("True", "LLMProxyReady")
    else:
        assert (waiting["status"], waiting["reason"]) == (status, "WaitingForLLMProxy")
        assert waiting["message"].startswith("Waits for the LLM proxy. ")


def test_without_a_token_it_is_not_ready() -> None:
    """Unknown before the first was asked for, false once it was refused, with the cure."""
    house = House("azure")
    assert house.ready() == ("Unknown", "WaitingForFirstToken")
    house.refuse()
    assert house.ready() == ("False", "TokenUnavailable")
    found = house.conditions()
    assert "Renew the secret" in found["LLMProxyReady"]["message"]
    assert found["APIKeysConfigured"]["reason"] == "CredentialRejected"


def test_with_one_usable_token_of_two_it_serves() -> None:
    """What fails is named all the same."""
    house = House("azure", "azure-eu")
    house.manager.identities[0].get_token()
    house.source.refuses = True
    with pytest.raises(CredentialRejectedError):
        house.manager.identities[1].get_token()
    condition = house.conditions()["LLMProxyReady"]
    assert (condition["status"], condition["reason"]) == ("True", "Degraded")
    assert condition["message"].startswith("azure-eu: refused")


def test_keys_are_configured_or_named() -> None:
    """Nothing at all, a key without a value, and everything there."""
    house = House()
    assert house.conditions()["APIKeysConfigured"]["reason"] == "NotConfigured"
    house.credentials = [
        Credential(),
        Credential("gemini", field="gemini_api_key", has_value=False),
    ]
    missing = house.conditions()["APIKeysConfigured"]
    assert (missing["status"], missing["reason"]) == ("False", "KeyMissing")
    assert "gemini.gemini_api_key" in missing["message"]
    assert "openai" not in missing["message"]
    house.credentials = [Credential()]
    assert house.conditions()["APIKeysConfigured"]["status"] == "True"


def test_the_time_changes_only_with_the_status() -> None:
    """Neither reading it nor another reason is a transition; there and back are two."""
    house = House("azure")
    house.manager.identities[0].get_token()
    first = house.conditions()["LLMProxyReady"]["lastTransitionTime"]
    house.clock.wall_now += 60
    house.refuse()
    degraded = house.conditions()["LLMProxyReady"]
    assert (degraded["reason"], degraded["lastTransitionTime"]) == ("Degraded", first)
    house.clock.wall_now += 60
    house.stack = StackState(reachable=False, message="down")
    second = house.conditions()["LLMProxyReady"]["lastTransitionTime"]
    assert second == "2023-11-14T22:15:20Z"
    house.clock.wall_now += 60
    house.draining = True
    assert house.conditions()["LLMProxyReady"]["lastTransitionTime"] == second
    house.draining, house.stack = False, StackState(reachable=True)
    house.clock.wall_now += 60
    assert house.conditions()["LLMProxyReady"]["lastTransitionTime"] == "2023-11-14T22:17:20Z"


def test_a_transition_between_two_readers_is_seen_by_a_probe() -> None:
    """`observe` has the time of what nobody has read yet."""
    house = House("azure")
    house.manager.identities[0].get_token()
    house.status.observe()
    house.clock.wall_now += 60
    house.draining = True
    house.status.observe()
    house.clock.wall_now += 600
    assert house.conditions()["LLMProxyReady"]["lastTransitionTime"] == "2023-11-14T22:14:20Z"


def test_each_identity_tells_its_state_and_the_cure() -> None:
    """The document of an identity that was refused after a good start."""
    house = House("azure")
    house.manager.identities[0].get_token()
    house.refuse()
    (identity,) = house.status.as_json()["identities"]
    assert identity["name"] == "azure"
    assert identity["state"] == "fresh"
    assert identity["expiresAt"] == "2023-11-14T23:13:20Z"
    assert identity["lastError"] == {
        "type": "CredentialRejectedError",
        "message": "refused. Renew the secret",
        "cure": "Renew the secret",
        "current": True,
    }
    assert "cAn4ry" not in json.dumps(house.status.as_json())


def test_parts_that_are_not_there_are_not_shown() -> None:
    """A service without stack, inbound or other keys has its identities and conditions."""
    document = Status(watched(FakeClock(), Source(), "azure")).as_json()
    assert "stack" not in document
    assert "inbound" not in document


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["solution-server", "kai"], []),
        (["a b"], ["must be a name"]),
        (["../x"], ["must be a name"]),
        (["llm"], []),
        (["LLMProxy"], ["is the proxy's own"]),
        (["solution-server", "SolutionServer"], [r"makes the condition SolutionServerReady, as"]),
        (["solution-server", "solution_server"], [r"makes the condition SolutionServerReady, as"]),
    ],
    ids=str,
)
def test_names_of_services_make_distinct_conditions(names: list[str], said: list[str]) -> None:
    """Two that would make the same condition are a slip."""
    problems = dependents_problems({"dependents": names})
    assert len(problems) == len(said)
    for problem, text in zip(problems, said, strict=True):
        assert text in problem.text
        assert problem.key[0] == "dependents"


async def test_a_transition_has_the_time_at_which_it_happened() -> None:
    """Not the time at which somebody asks for the document."""
    house = House()
    happened = house.clock.wall()
    seen = asyncio.Event()

    def stack() -> StackState:
        seen.set()
        return house.stack

    status = Status(house.manager, stack=stack, clock=house.clock.wall)
    following = asyncio.create_task(status.follow(interval=0.0))
    await seen.wait()
    house.clock.step_wall(100)
    house.stack = StackState(reachable=False)
    seen.clear()
    await seen.wait()
    house.clock.step_wall(1000)
    following.cancel()
    ready, _ = status.as_json()["conditions"]
    assert ready["status"] == "False"
    assert ready["lastTransitionTime"] == timestamp(happened + 100)
