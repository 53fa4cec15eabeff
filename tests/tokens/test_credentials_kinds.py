"""The table of credential kinds: one entry is all that a new kind needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import pytest
from pydantic import BeforeValidator
from signing_in import (
    CANARY,
    emu_fixture,  # noqa: F401 - pytest finds the fixture by its name
    running_fixture,  # noqa: F401 - likewise
)

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.check.configuration import check_identities
from lightspeed_azure.config import AzureEntraIdConfiguration, Configuration
from lightspeed_azure.config.credential_kinds import KINDS, CredentialKind
from lightspeed_azure.config.values import file_path
from lightspeed_azure.emulators import Emulators
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    TokenError,
    TokenUnavailableError,
)

pytestmark = pytest.mark.integration


class TicketConfiguration(AzureEntraIdConfiguration):
    """An identity that can also sign in with a ticket from a file."""

    ticket_path: Annotated[Path | None, BeforeValidator(file_path)] = None


def build(azure: Any, config: Any, content: Any, timeout: float, options: dict[str, Any]) -> Any:
    """Return a credential for the ticket; a torn one fails on this machine."""
    assert timeout > 0
    ticket = content.get_secret_value().decode()
    if ticket == f"torn {CANARY}":
        raise RuntimeError(ticket)
    return azure.ClientSecretCredential(
        tenant_id=config.tenant_id,
        client_id=config.client_id,
        client_secret=ticket,
        authority=config.authority_host,
        disable_instance_discovery=True,
        connection_verify=str(config.ca_bundle),
        **options,
    )


def explain(config: Any, error: BaseException, status: int | None) -> TokenError | None:
    """Return the error of a torn ticket."""
    if status is not None:
        return None
    text = f"The ticket of {config.client_id} is torn ({type(error).__name__})"
    return TokenUnavailableError(text, cure="Ask for a new one", link="https://tickets.test")


def check(content: bytes) -> None:
    """Refuse a blank ticket."""
    if content == b"blank":
        raise ValueError("is blank; have it filled in")


TICKET = CredentialKind(
    key="ticket_path",
    name="ticket",
    build=build,
    description="ticket {label} of {config.client_id}",
    required={"tenant_id": "TICKET_TENANT", "client_id": "TICKET_CLIENT"},
    variable="TICKET_PATH",
    file_name="ticket.txt",
    check=lambda _: check,
    explain=explain,
)


@contextmanager
def registered(kind: CredentialKind) -> Iterator[None]:
    """Add a kind to the table until the block ends."""
    with patch.dict(KINDS, {kind.key: kind}):
        yield


@pytest.fixture(name="block")
def _block(emu: Emulators, tmp_path: Path) -> dict[str, Any]:
    """Return the keys of an identity whose ticket is valid."""
    secret = emu.entra.application.client_secret.get_secret_value()
    (tmp_path / "ticket.txt").write_text(f"{secret}\n")
    return {
        "authority_host": emu.entra.authority,
        "ca_bundle": emu.ca_bundle,
        "tenant_id": emu.entra.tenant_id,
        "client_id": emu.entra.application.client_id,
        "ticket_path": tmp_path,
        "environ": {},
    }


def test_a_new_kind_needs_one_entry(
    emu: Emulators, block: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its key is accepted, described, checked and signed in with, and it explains its failures."""
    caplog.set_level(logging.INFO, logger="lightspeed_azure")
    client_id = block["client_id"]
    with registered(TICKET):
        config = TicketConfiguration(**block)
        assert config.credential_kind == "ticket"
        (finding, *_) = check_identities(Configuration(azure_entra_id=(config,)))
        who = f"tenant {emu.entra.tenant_id}, application {client_id}"
        assert finding.found == f"ticket, {who}; {tmp_path} is read again for each renewal"
        manager = AzureEntraIDManager.isolated(config, random=lambda: 0.0)
        assert manager.get_token().get_secret_value()
        assert (
            f"Tokens come from ticket ticket_path {tmp_path} of {client_id}, "
            "for https://cognitiveservices.azure.com/.default"
        ) in caplog.text
        (tmp_path / "ticket.txt").write_text(f"torn {CANARY}")
        torn = AzureEntraIDManager.isolated(config)
        with pytest.raises(TokenUnavailableError) as caught:
            torn.get_token()
        for each in (manager, torn):
            each.close()
    assert caught.value.message == f"The ticket of {client_id} is torn (RuntimeError)"
    assert caught.value.cure == "Ask for a new one"
    assert CANARY not in repr(caught.value) + caplog.text


def environment(environ: dict[str, str]) -> dict[str, Any]:
    """Return the argument that mypy does not see in a subclass of a pydantic model."""
    return {"environ": environ}


def test_a_new_kind_takes_part_in_every_rule(block: dict[str, Any], tmp_path: Path) -> None:
    """Its variables, its required keys, its file's check and its rivals, without code for them."""
    with registered(TICKET):
        environ = {"TICKET_PATH": str(tmp_path), "TICKET_TENANT": "t", "TICKET_CLIENT": "c"}
        found = TicketConfiguration(**environment(environ))
        assert (found.ticket_path, found.tenant_id, found.client_id) == (tmp_path, "t", "c")
        with pytest.raises(InvalidConfigurationError) as missing:
            TicketConfiguration(**environment({}), ticket_path=tmp_path)
        with pytest.raises(InvalidConfigurationError) as two:
            TicketConfiguration(**block, azure_cli=True)
        (tmp_path / "ticket.txt").write_text("blank")
        file = found.secret_file()
        assert file is not None
        with pytest.raises(InvalidConfigurationError) as blank:
            file.read()
    assert missing.value.problems == (
        "tenant_id: is missing; add it, or set TICKET_TENANT",
        "client_id: is missing; add it, or set TICKET_CLIENT",
    )
    assert two.value.problems == (
        "ticket_path: azure_cli and ticket_path exclude each other; keep one of them",
    )
    assert str(blank.value) == f"ticket_path: {tmp_path}: is blank; have it filled in"


def test_without_its_entry_the_kind_does_not_exist(block: dict[str, Any]) -> None:
    """The key alone does not choose a way to sign in."""
    with pytest.raises(InvalidConfigurationError) as caught:
        TicketConfiguration(**block)
    (problem,) = caught.value.problems
    assert problem.startswith("says no way to sign in; give one of client_secret, ")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.key)
def test_an_entry_fits_the_block(kind: CredentialKind) -> None:
    """Each key that an entry names is a key of the block, and a path has the name of its file."""
    fields = AzureEntraIdConfiguration.model_fields
    assert {kind.key, *kind.required, *kind.options, *kind.excluded} <= fields.keys()
    assert bool(kind.file_name) == (fields[kind.key].annotation == Path | None)


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ({}, {}, True),
        ({}, {"scope": "https://cognitiveservices.azure.com/.default"}, True),
        ({}, {"scope": "https://ai.azure.com/.default"}, False),
        ({}, {"tenant_id": "t2"}, False),
        ({}, {"client_id": "c2"}, False),
        ({}, {"client_secret": "s2"}, False),
        ({}, {"cloud": "china"}, False),
        ({}, {"deadline": 3.0}, False),
        ({"managed_identity": "system"}, {"managed_identity": {"client_id": "a"}}, False),
        ({"managed_identity": {"object_id": "a"}}, {"managed_identity": {"client_id": "a"}}, False),
        ({"credential": "a:b"}, {"credential": "a:c"}, False),
    ],
)
def test_a_cache_belongs_to_an_identity_and_a_scope(
    one: dict[str, Any], other: dict[str, Any], *, is_shared: bool
) -> None:
    """A configured scope that equals the cloud's shares the cache; another scope does not."""
    secret = {} if one else {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    manager = AzureEntraIDManager.isolated(
        [
            AzureEntraIdConfiguration(environ={}, provider_id=name, **{**secret, **keys})
            for name, keys in (("a", one), ("b", other))
        ]
    )
    first, second = manager.identities
    assert (first.cache is second.cache) is is_shared
    manager.close()
