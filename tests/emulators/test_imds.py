"""The managed-identity endpoint, asked by the real azure-identity and by plain HTTP."""

import time
from collections.abc import Mapping

import httpx
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from lightspeed_azure.emulators import Emulators, Fault, ImdsEmulator, ManagedIdentity

SCOPE = "https://cognitiveservices.azure.com/.default"
RESOURCE = "https://cognitiveservices.azure.com"
GOOD = {"api-version": "2018-02-01", "resource": RESOURCE}


def ask(imds: ImdsEmulator, query: Mapping[str, str] = GOOD, **headers: str) -> httpx.Response:
    """Ask for a token by plain HTTP."""
    return httpx.get(
        f"{imds.endpoint}/metadata/identity/oauth2/token",
        params=dict(query),
        headers=headers or {"Metadata": "true"},
    )


@pytest.mark.usefixtures("azure_environment")
def test_the_machines_own_identity(azure_emulators: Emulators) -> None:
    """ManagedIdentityCredential gets a token that Azure accepts."""
    with ManagedIdentityCredential() as mine:
        token = mine.get_token(SCOPE)
    assert token.expires_on == pytest.approx(time.time() + 3600, abs=5)
    claims = jwt.decode(token.token, options={"verify_signature": False})
    own = azure_emulators.imds.identities[0]
    assert (claims["appid"], claims["aud"]) == (own.client_id, RESOURCE)
    answer = httpx.get(
        f"{azure_emulators.azure.base_url}/models",
        headers={"Authorization": f"Bearer {token.token}"},
    )
    assert answer.status_code == 200
    assert dict(azure_emulators.imds.requests.by_identity) == {own.client_id: 1}


@pytest.mark.usefixtures("azure_environment")
@pytest.mark.parametrize("name", ["client_id", "object_id", "resource_id"])
def test_a_user_assigned_identity(imds_emulator: ImdsEmulator, name: str) -> None:
    """It is found by each of its three names, as azure-identity sends them."""
    wanted = imds_emulator.identities[1]
    value = getattr(wanted, name)
    if name == "client_id":
        credential = ManagedIdentityCredential(client_id=value)
    else:
        credential = ManagedIdentityCredential(identity_config={name: value})
    with credential as mine:
        token = mine.get_token(SCOPE).token
    assert jwt.decode(token, options={"verify_signature": False})["appid"] == wanted.client_id


@pytest.mark.usefixtures("azure_environment")
def test_azure_identity_surfaces_an_unknown_identity(imds_emulator: ImdsEmulator) -> None:
    """The endpoint's words reach the caller."""
    with (
        ManagedIdentityCredential(client_id="nobody") as mine,
        pytest.raises(CredentialUnavailableError, match="Identity not found"),
    ):
        mine.get_token(SCOPE)
    assert dict(imds_emulator.requests.by_outcome) == {"invalid_request": 1}


def test_all_values_are_text_and_expiry_is_absolute(imds_emulator: ImdsEmulator) -> None:
    """The answer has the form of a virtual machine's."""
    answer = ask(imds_emulator).json()
    assert {type(value) for value in answer.values()} == {str}
    assert int(answer["expires_on"]) == pytest.approx(
        time.time() + int(answer["expires_in"]), abs=2
    )
    assert answer["resource"] == RESOURCE
    assert answer["token_type"] == "Bearer"


def test_the_same_token_comes_back_until_near_its_end() -> None:
    """A token is repeated with the same end until the margin, which is a tenth for short lives."""
    ahead = 0.0
    with Emulators(token_lifetime=10.0, clock=lambda: 1_700_000_000.0 + ahead) as emu:
        first = ask(emu.imds).json()
        ahead = 8.9
        again = ask(emu.imds).json()
        ahead = 9.1
        second = ask(emu.imds).json()
    assert again["access_token"] == first["access_token"] != second["access_token"]
    assert again["expires_on"] == first["expires_on"] == "1700000010"
    assert (again["expires_in"], second["expires_in"]) == ("2", "10")
    assert (emu.imds.requests.requested, emu.imds.requests.issued) == (3, 2)


def test_the_margin_can_be_set() -> None:
    """With a margin of nought the token is repeated to its end."""
    ahead = 0.0
    with Emulators(clock=lambda: 1_700_000_000.0 + ahead) as emu:
        first = ask(emu.imds).json()
        ahead = 3301.0
        second = ask(emu.imds).json()
        emu.imds.renewal_margin = 0.0
        ahead += 3599.0
        third = ask(emu.imds).json()
    assert first["access_token"] != second["access_token"] == third["access_token"]


@pytest.mark.parametrize(
    ("query", "headers", "error"),
    [
        (GOOD, {"Accept": "*/*"}, "bad_request_102"),
        (GOOD, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}, "bad_request_102"),
        ({"resource": RESOURCE}, {}, "invalid_request"),
        ({"api-version": "2018-02-01"}, {}, "invalid_request"),
        ({**GOOD, "client_id": "nobody"}, {}, "invalid_request"),
    ],
)
def test_bad_requests(
    imds_emulator: ImdsEmulator, query: Mapping[str, str], headers: dict[str, str], error: str
) -> None:
    """What is missing is 400, with the service's error code."""
    answer = ask(imds_emulator, query, **headers)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_without_an_identity_of_its_own(imds_emulator: ImdsEmulator) -> None:
    """One user-assigned identity is taken without being named; of two, one must be named."""
    first, second = ManagedIdentity(), ManagedIdentity()
    imds_emulator.identities = (first,)
    assert ask(imds_emulator).json()["client_id"] == first.client_id
    imds_emulator.identities = (first, second)
    assert "Multiple user assigned identities" in ask(imds_emulator).json()["error_description"]
    imds_emulator.identities = ()
    assert ask(imds_emulator).json()["error_description"] == "Identity not found"


@pytest.mark.parametrize("status", [404, 410, 429, 500])
def test_faults(imds_emulator: ImdsEmulator, status: int) -> None:
    """The statuses that IMDS is known for, with its error body."""
    imds_emulator.fault(Fault.status(status, retry_after=1), times=1)
    answer = ask(imds_emulator)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]
    assert ask(imds_emulator).status_code == 200
    assert dict(imds_emulator.requests.by_outcome) == {str(status): 1, "200": 1}


@pytest.mark.usefixtures("azure_environment")
def test_azure_identity_meets_a_500(imds_emulator: ImdsEmulator) -> None:
    """Without retries of its own it fails at once."""
    imds_emulator.fault(Fault.status(500))
    with (
        ManagedIdentityCredential(retry_total=0, retry_status=0) as mine,
        pytest.raises(ClientAuthenticationError),
    ):
        mine.get_token(SCOPE)


def test_other_paths(imds_emulator: ImdsEmulator) -> None:
    """Only the token path exists."""
    assert httpx.get(f"{imds_emulator.endpoint}/metadata/instance").status_code == 404
