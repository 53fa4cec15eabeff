"""Signing in at the emulators: fixtures and configurations that several test files share."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from entra_material import Certificate, public_key
from pydantic import SecretStr

from lightspeed_azure.config import AzureEntraIdConfiguration
from lightspeed_azure.emulators import Application, Emulators, FederatedCredential
from lightspeed_azure.tokens.source import Attempt

VARIABLES = (
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_AUTHORITY_HOST",
    "AZURE_AUTHORITY_CA_BUNDLE",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
)
CANARY = "cAn4ry~s3cret"


@pytest.fixture(name="running", scope="session")
def running_fixture() -> Iterator[Emulators]:
    """Yield emulators that all tests share."""
    with Emulators() as emulators:
        yield emulators


@pytest.fixture(name="emu")
def emu_fixture(running: Emulators, monkeypatch: pytest.MonkeyPatch) -> Emulators:
    """Return emulators as if newly started; azure-identity finds the managed-identity endpoint."""
    running.reset()
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", running.imds.endpoint)
    return running


def configured(emu: Emulators, **block: Any) -> AzureEntraIdConfiguration:
    """Return the identity of the default application, or of what the block says."""
    environ = {
        "AZURE_TENANT_ID": emu.entra.tenant_id,
        "AZURE_CLIENT_ID": emu.entra.application.client_id,
        "AZURE_AUTHORITY_HOST": emu.entra.authority,
        "AZURE_AUTHORITY_CA_BUNDLE": str(emu.ca_bundle),
    }
    return AzureEntraIdConfiguration(environ=environ, **block)


def attempt(previous: SecretStr | None = None, *, timeout: float = 10.0) -> Attempt:
    """Return an attempt that begins now."""
    return Attempt(timeout=timeout, sent_at=time.time(), previous=previous)


def certified(emu: Emulators, *certificates: Certificate) -> Application:
    """Let the default application sign in with these certificates alone."""
    application = emu.entra.application
    return emu.entra.register(
        application.replace(secrets=[], certificates=[each.public for each in certificates])
    )


def federated(emu: Emulators, **changes: Any) -> Application:
    """Let the default application trust the cluster's service account alone."""
    trusted = {
        "issuer": "https://cluster.test",
        "subject": "system:serviceaccount:lightspeed:stack",
        "key": public_key(),
        **changes,
    }
    return emu.entra.register(
        emu.entra.application.replace(secrets=[], federated=[FederatedCredential(**trusted)])
    )
