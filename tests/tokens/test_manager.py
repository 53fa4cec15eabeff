"""The manager: configured once, read everywhere, and a drop-in for the one it grew out of."""

import asyncio
import logging
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from integration_support import entra_block
from pydantic import BaseModel, SecretStr

from lightspeed_azure import (
    AzureEntraIdConfiguration,
    AzureEntraIDManager,
    CredentialRejectedError,
    InvalidConfigurationError,
    TokenUnavailableError,
)
from lightspeed_azure.emulators import Emulators, Fault

BASE = "https://example.openai.azure.com/openai/v1"


class TheirModel(BaseModel):
    """An identity as lightspeed-stack's own configuration model has it."""

    tenant_id: SecretStr
    client_id: SecretStr
    client_secret: SecretStr
    scope: str = "https://cognitiveservices.azure.com/.default"
    authority_host: str
    ca_bundle: str


@pytest.fixture
def manager(azure_emulators: Emulators) -> AzureEntraIDManager:
    """A manager that signs in at the emulator."""
    return AzureEntraIDManager.isolated(entra_block(azure_emulators))


def test_unconfigured_it_says_so_and_never_fetches() -> None:
    """Without a configuration the properties are empty, and asking is a ValueError."""
    manager = AzureEntraIDManager.isolated()
    assert not manager.is_entra_id_configured
    assert manager.is_token_expired
    assert manager.access_token.get_secret_value() == ""
    assert manager.azure_base_url is None
    assert manager.build_azure_provider_data() is None
    assert manager.status() == ()
    for ask in (manager.refresh_token, manager.get_token):
        with pytest.raises(ValueError, match="not configured"):
            ask()


def test_configuring_fetches_nothing(
    manager: AzureEntraIDManager, azure_emulators: Emulators
) -> None:
    """The first use fetches, and only that."""
    assert manager.is_entra_id_configured
    assert manager.is_token_expired
    assert azure_emulators.entra.requests.requested == 0
    assert manager.get_token().get_secret_value()
    assert not manager.is_token_expired
    assert manager.get_token() is manager.get_token()
    assert azure_emulators.entra.requests.requested == 1


def test_the_calling_pattern_of_lightspeed_stack_works(
    manager: AzureEntraIDManager, azure_emulators: Emulators
) -> None:
    """`is_entra_id_configured and is_token_expired and refresh_token()`, unchanged."""
    manager.set_base_url(BASE)
    assert manager.build_azure_provider_data() is None
    if manager.is_entra_id_configured and manager.is_token_expired:
        assert manager.refresh_token()
    token = manager.access_token.get_secret_value()
    assert manager.build_azure_provider_data() == {"azure_api_key": token, "azure_api_base": BASE}
    assert manager.refresh_token(), "asked for, a fresh token is renewed too"
    assert manager.access_token.get_secret_value() != token
    assert azure_emulators.entra.requests.issued == 2


def test_refresh_token_is_false_when_entra_id_fails(
    manager: AzureEntraIDManager, azure_emulators: Emulators, caplog: pytest.LogCaptureFixture
) -> None:
    """As upstream's does; the reason is logged, the typed error is for `get_token`."""
    azure_emulators.entra.fault(Fault.status(503, retry_after=9))
    assert manager.refresh_token() is False
    assert "Token renewal failed" in caplog.text
    with pytest.raises(TokenUnavailableError) as caught:
        manager.get_token()
    assert caught.value.retry_after == pytest.approx(9, abs=1)
    assert azure_emulators.entra.requests.requested == 1, "the back-off is respected"


def test_a_wrong_secret_is_permanent_and_tells_the_cure(azure_emulators: Emulators) -> None:
    """Entra ID's own code, what to do, and no second attempt."""
    block = entra_block(azure_emulators) | {"client_secret": "wrong"}
    manager = AzureEntraIDManager.isolated(block)
    for _ in range(3):
        with pytest.raises(CredentialRejectedError) as caught:
            manager.get_token()
        assert caught.value.code == "AADSTS7000215"
        assert caught.value.cure
        assert caught.value.link.startswith("https://")
    assert azure_emulators.entra.requests.requested == 1


@pytest.mark.parametrize("kind", ["mapping", "model", "object", "ours", "list"])
def test_any_shape_of_configuration_serves(azure_emulators: Emulators, kind: str) -> None:
    """A mapping, lightspeed-stack's model, any object, our model, or a list of one."""
    block: dict[str, Any] = entra_block(azure_emulators)
    texts = {name: str(value) for name, value in block.items()} | {
        "client_secret": azure_emulators.entra.application.client_secret.get_secret_value()
    }
    config: object = {
        "mapping": block,
        "model": TheirModel(**texts),  # type: ignore[arg-type]
        "object": SimpleNamespace(**block),
        "ours": AzureEntraIdConfiguration(**block),
        "list": [block],
    }[kind]
    manager = AzureEntraIDManager.isolated()
    manager.set_config(config)
    assert manager.get_token().get_secret_value()


def test_the_same_identity_keeps_its_token(
    manager: AzureEntraIDManager, azure_emulators: Emulators
) -> None:
    """Configuring anew what has not changed fetches nothing; a new secret does."""
    token = manager.get_token()
    manager.set_config(entra_block(azure_emulators))
    assert manager.get_token() is token
    azure_emulators.entra.rotate_secret()
    manager.set_config(entra_block(azure_emulators))
    assert manager.get_token().get_secret_value() != token.get_secret_value()


def test_a_broken_configuration_leaves_the_one_before(manager: AzureEntraIDManager) -> None:
    """What cannot work replaces nothing."""
    token = manager.get_token()
    with pytest.raises(InvalidConfigurationError):
        manager.set_config({"tenant_id": "x", "no_such_key": 1})
    assert manager.get_token() is token


def test_several_identities_are_kept_apart(azure_emulators: Emulators) -> None:
    """Each provider has its own; an unknown provider has none; the properties show the first."""
    block = entra_block(azure_emulators)
    broken = block | {"client_secret": "wrong", "provider_id": "azure-b"}
    manager = AzureEntraIDManager.isolated([block | {"provider_id": "azure-a"}, broken])
    assert manager.identity("azure-a").get_token().get_secret_value()
    with pytest.raises(CredentialRejectedError):
        manager.identity("azure-b").get_token()
    assert manager.access_token == manager.identity("azure-a").get_token()
    assert manager.find_identity("openai") is None
    with pytest.raises(InvalidConfigurationError, match="openai"):
        manager.identity("openai")
    assert [status.name for status in manager.status()] == ["azure-a", "azure-b"]


def test_two_providers_of_one_identity_share_its_token(azure_emulators: Emulators) -> None:
    """The cache's entry is the identity, not the provider."""
    block = entra_block(azure_emulators)
    manager = AzureEntraIDManager.isolated(
        [block | {"provider_id": "azure-a"}, block | {"provider_id": "azure-b"}]
    )
    assert manager.identity("azure-a").get_token() is manager.identity("azure-b").get_token()
    assert azure_emulators.entra.requests.requested == 1


def test_two_identities_for_one_provider_are_refused(azure_emulators: Emulators) -> None:
    """Nobody could say whose token a request carries."""
    block = entra_block(azure_emulators)
    with pytest.raises(InvalidConfigurationError, match="two identities"):
        AzureEntraIDManager.isolated([block, block])


async def test_prefetch_starts_behind(azure_emulators: Emulators) -> None:
    """`prefetch` starts the first fetch when configured; whoever comes joins it."""
    manager = AzureEntraIDManager.isolated(entra_block(azure_emulators) | {"prefetch": True})
    assert (await manager.aget_token()).get_secret_value()
    assert azure_emulators.entra.requests.requested == 1


def test_the_first_request_does_not_import_azure_identity_on_its_loop() -> None:
    """azure-identity is imported on another thread, once the manager is configured."""
    code = """
import sys, threading
from lightspeed_azure import AzureEntraIDManager
assert "azure.identity" not in sys.modules
before = threading.active_count()
AzureEntraIDManager().set_config({"tenant_id": "t", "client_id": "c", "client_secret": "s"})
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(30)
assert "azure.identity" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_line_a_renewal_none_a_request(
    manager: AzureEntraIDManager, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand requests log what one does."""
    with caplog.at_level(logging.INFO, logger="lightspeed_azure"):
        for _ in range(1000):
            manager.get_token()
        for thread in threading.enumerate():  # the line is written once the callers are served
            if thread.name.startswith("lightspeed-azure-token"):
                thread.join(10)
    lines = [record for record in caplog.records if record.name.startswith("lightspeed_azure")]
    assert len(lines) == 1


async def test_threads_and_loops_share_one_fetch(
    manager: AzureEntraIDManager, azure_emulators: Emulators
) -> None:
    """Coroutines here, threads there: one request to Entra ID."""
    azure_emulators.entra.fault(Fault.delay(0.2), times=1)
    threads = [threading.Thread(target=manager.get_token) for _ in range(20)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(manager.aget_token() for _ in range(200)))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert azure_emulators.entra.requests.requested == 1
    assert manager.status()[0].waiting == 0


def test_the_process_wide_instance_takes_no_arguments() -> None:
    """`AzureEntraIDManager(…)` with arguments would silently be somebody else's instance."""
    make: Any = AzureEntraIDManager
    with pytest.raises(TypeError, match="isolated"):
        make(clock=None)
