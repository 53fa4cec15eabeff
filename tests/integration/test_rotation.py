"""Credentials are rotated while a crowd asks the real Llama Stack: nobody notices."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from entra_material import assertion
from integration_support import RUN_CONFIG, ask, ask_streaming
from kubernetes_volume import KubernetesVolume
from rotating import AssertionRotation, CertificateRotation, SecretRotation

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.config import load_configuration
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import CredentialRejectedError

pytestmark = pytest.mark.integration

LIFETIME = 4.0
"""Seconds that a token lives, so that several are renewed while a test runs."""


class Mounted:
    """A credential in a mounted Kubernetes Secret, and a service that signs in with it."""

    def __init__(self, emu: Emulators, rotation: SecretRotation, folder: Path) -> None:
        self.emu = emu
        self.rotation = rotation
        self.volume = KubernetesVolume(folder / "volume", **{rotation.name: rotation.good()})
        self.answers = 0

    def configuration(self, llama_stack: str) -> str:
        """Return the operator's file."""
        entra = self.emu.entra
        return (
            f"azure_entra_id:\n  tenant_id: {entra.tenant_id}\n"
            f"  client_id: {entra.application.client_id}\n  authority_host: {entra.authority}\n"
            f"  ca_bundle: {self.emu.ca_bundle}\n  {self.rotation.key}: {self.volume.path}\n"
            f"llama_stack:\n{llama_stack}"
        )

    def write(self, content: bytes) -> None:
        """Do what the kubelet does."""
        self.volume.swap(**{self.rotation.name: content})

    @property
    def issued(self) -> int:
        """How many tokens Entra ID has issued."""
        return self.emu.entra.requests.issued

    @property
    def refused(self) -> int:
        """How many times Entra ID has refused the credential."""
        asked = self.emu.entra.requests
        return sum(asked.by_outcome.values()) - asked.issued


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens while the crowd asks.

    Attributes:
        when: as soon as this holds.
        happens: this happens.
    """

    when: Callable[[], bool]
    happens: Callable[[], object] = lambda: None


async def crowd(client: object, mounted: Mounted, steps: list[Step]) -> None:
    """Ask without a pause from twelve sides until every step was taken; no request may fail."""
    waiting = iter(steps)
    step = next(waiting, None)

    def look() -> None:
        nonlocal step
        if step and step.when():
            happens, step = step.happens, next(waiting, None)
            happens()

    async def worker(number: int) -> None:
        while step:
            await (ask_streaming if number % 2 else ask)(client, f"question {number}")
            mounted.answers += 1
            look()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(worker(number))


CASES = [
    pytest.param((SecretRotation, "service"), id="secret-service"),
    pytest.param((CertificateRotation, "library"), id="certificate-library"),
    pytest.param((AssertionRotation, "library"), id="assertion-library"),
]


@pytest.fixture(params=CASES)
def mounted(request: pytest.FixtureRequest, emulators: Emulators, tmp_path: Path) -> Mounted:
    """Each kind of credential that is in a file."""
    emulators.entra.token_lifetime = LIFETIME
    return Mounted(emulators, request.param[0](emulators), tmp_path)


@pytest.fixture
def llama_stack(request: pytest.FixtureRequest, mounted: Mounted) -> str:
    """The block `llama_stack:` of the mode that the kind is tried in."""
    request.getfixturevalue("stack_environment")
    if request.node.callspec.params["mounted"][1] == "library":
        return f"  use_as_library_client: true\n  library_client_config_path: {RUN_CONFIG}\n"
    return f"  url: {request.getfixturevalue('stack_url')}\n"


@pytest.fixture
async def client(mounted: Mounted, llama_stack: str, tmp_path: Path) -> AsyncIterator[object]:
    """The client of a service that was configured by its operator's file."""
    file = tmp_path / "lightspeed-stack.yaml"
    file.write_text(mounted.configuration(llama_stack))
    loaded = load_configuration(file)
    assert loaded.llama_stack is not None
    manager = AzureEntraIDManager.isolated(loaded.azure_entra_id)
    holder = AsyncLlamaStackClientHolder.isolated(manager=manager)
    await holder.load(loaded.llama_stack)
    yield holder.get_client()
    await holder.close()
    manager.close()


async def test_a_rotation_under_load_fails_no_request(client: object, mounted: Mounted) -> None:
    """Twice the old one ends at Entra ID as the new one is mounted, once after half a file.

    Entra ID takes only the newest, so every token issued since is that one's doing.
    """
    rotation = mounted.rotation
    await crowd(
        client,
        mounted,
        [
            Step(lambda: mounted.issued >= 1, lambda: mounted.write(rotation.half())),
            Step(lambda: mounted.issued >= 2, lambda: mounted.write(rotation.rotate())),
            Step(lambda: mounted.issued >= 4, lambda: mounted.write(rotation.rotate())),
            Step(lambda: mounted.issued >= 6),
        ],
    )
    asked = mounted.emu.azure.requests
    assert (asked.rejected, asked.by_reason) == (0, {})
    assert asked.accepted == mounted.answers > 50
    assert mounted.emu.entra.requests.by_grant.keys() == {rotation.grant}
    assert len(asked.accepted_by_token) >= 5


async def test_a_rotation_that_is_mounted_late_fails_no_request(
    client: object, mounted: Mounted
) -> None:
    """Entra ID refuses the old one already; the token at hand serves until the new one is there."""
    late: list[bytes] = []
    answers: list[int] = []
    mounted.emu.entra.token_lifetime = 6.0
    await crowd(
        client,
        mounted,
        [
            Step(lambda: mounted.issued >= 1, lambda: late.append(mounted.rotation.rotate())),
            Step(lambda: mounted.refused >= 1, lambda: answers.append(mounted.answers)),
            Step(lambda: mounted.answers >= answers[0] + 50, lambda: mounted.write(late[0])),
            Step(lambda: mounted.issued >= 2),
        ],
    )
    asked = mounted.emu.azure.requests
    assert asked.rejected == 0
    assert asked.accepted == mounted.answers
    assert mounted.refused >= 1


async def test_a_refused_credential_is_tried_again_once_its_file_has_changed(
    client: object, mounted: Mounted
) -> None:
    """No token is at hand, and the refusal is remembered only until the cure is mounted.

    Files are looked at once a second while callers fail fast.
    """
    good = mounted.rotation.good()
    mounted.rotation.rotate()
    mounted.write(good)
    if mounted.rotation.grant == "federated":
        mounted.write(assertion(sub="somebody else").encode())
    for _ in range(3):
        with pytest.raises(CredentialRejectedError):
            await ask(client, "before")
    assert mounted.refused == 1, "a permanent refusal is not asked for again"
    mounted.write(mounted.rotation.rotate())
    answer = ""
    async with asyncio.timeout(5):
        while not answer:
            with suppress(CredentialRejectedError):
                answer = await ask(client, "after")
            await asyncio.sleep(0)  # a refusal that is remembered waits for nothing
    assert "after" in answer
    assert (mounted.refused, mounted.issued) == (1, 1)
