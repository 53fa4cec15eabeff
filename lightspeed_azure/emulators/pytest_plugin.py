"""Fixtures for the tests of this package's users; pytest loads them by itself.

``azure_emulators``
    all three services, reset for this test
``entra_emulator``, ``imds_emulator``, ``azure_openai_emulator``
    `azure_emulators.entra`, `.imds`, `.azure`
``azure_environment``
    sets the environment variables that lead to them, for this test; a mapping

The servers start when a test first asks for them and serve the whole session; tenant,
application, secret, signing key, counters and faults are new for each test. Tokens live 3600 s
unless ``--azure-token-lifetime`` or ``azure_token_lifetime`` in the ini-file says otherwise.

Loading this plug-in imports nothing but pytest; the emulators need the extra ``demo``.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lightspeed_azure.emulators import (
        AzureOpenAIEmulator,
        Emulators,
        EntraEmulator,
        ImdsEmulator,
    )

_DEFAULT_LIFETIME = "3600"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option and the ini-file's key."""
    group = parser.getgroup("lightspeed-azure")
    group.addoption(
        "--azure-token-lifetime",
        metavar="SECONDS",
        default=None,
        help="Seconds that a token of the Entra ID emulator lives (default: 3600)",
    )
    parser.addini(
        "azure_token_lifetime",
        "Seconds that a token of the Entra ID emulator lives",
        default=_DEFAULT_LIFETIME,
    )


@pytest.fixture(scope="session")
def _azure_emulator_servers() -> "Iterator[Emulators]":
    try:
        from lightspeed_azure.emulators import Emulators  # noqa: PLC0415 - not at start-up
    except ImportError as error:
        raise pytest.UsageError(
            f"The Azure emulators need the module {error.name!r}:"
            " pip install 'lightspeed-azure[demo]'"
        ) from error
    with Emulators() as emulators:
        yield emulators


@pytest.fixture
def azure_emulators(
    _azure_emulator_servers: "Emulators", pytestconfig: pytest.Config
) -> "Iterator[Emulators]":
    """Entra ID, IMDS and Azure OpenAI on the loopback interface, reset for this test."""
    _azure_emulator_servers.reset(token_lifetime=_lifetime(pytestconfig))
    yield _azure_emulator_servers
    _azure_emulator_servers.reset()


@pytest.fixture
def entra_emulator(azure_emulators: "Emulators") -> "EntraEmulator":
    """Entra ID: applications, token lifetime, faults, counters."""
    return azure_emulators.entra


@pytest.fixture
def imds_emulator(azure_emulators: "Emulators") -> "ImdsEmulator":
    """The managed-identity endpoint: identities, faults, counters."""
    return azure_emulators.imds


@pytest.fixture
def azure_openai_emulator(azure_emulators: "Emulators") -> "AzureOpenAIEmulator":
    """Azure OpenAI: deployments, revocation, faults, counters."""
    return azure_emulators.azure


@pytest.fixture
def azure_environment(
    azure_emulators: "Emulators", monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """Set the environment variables that lead to the emulators, and return them.

    The mapping holds the throw-away client secret.
    """
    environment = azure_emulators.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def _lifetime(config: pytest.Config) -> float:
    text = config.getoption("azure_token_lifetime") or config.getini("azure_token_lifetime")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"azure_token_lifetime must be seconds above 0; it is {text!r}")
    return seconds
