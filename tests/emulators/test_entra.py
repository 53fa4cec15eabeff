"""Entra ID's emulator, asked by the real azure-identity and by plain HTTP."""

import base64
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential

from lightspeed_azure.emulators import Application, ClientSecret, Emulators, EntraEmulator, Fault

SCOPE = "https://cognitiveservices.azure.com/.default"


def credential(emu: Emulators, **changes: Any) -> ClientSecretCredential:
    """Return azure-identity's own credential for the default application."""
    application = emu.entra.application
    given: dict[str, Any] = {
        "tenant_id": application.tenant_id,
        "client_id": application.client_id,
        "client_secret": application.client_secret.get_secret_value(),
        "authority": emu.entra.authority,
        "disable_instance_discovery": True,
        "connection_verify": str(emu.ca_bundle),
        "retry_total": 0,
    }
    return ClientSecretCredential(**{**given, **changes})


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims without believing them."""
    return jwt.decode(token, options={"verify_signature": False})


@pytest.fixture
def http(azure_emulators: Emulators) -> Iterator[httpx.Client]:
    """A client that trusts the throw-away authority, and nothing else."""
    context = ssl.create_default_context(cafile=str(azure_emulators.ca_bundle))
    with httpx.Client(verify=context, base_url=azure_emulators.entra.authority) as client:
        yield client


def form(entra: EntraEmulator, **changes: str) -> dict[str, str]:
    """Return a good token request."""
    return {
        "grant_type": "client_credentials",
        "client_id": entra.application.client_id,
        "client_secret": entra.application.client_secret.get_secret_value(),
        "scope": SCOPE,
        **changes,
    }


def ask(http: httpx.Client, entra: EntraEmulator, **changes: str) -> httpx.Response:
    """Ask for a token by plain HTTP."""
    return http.post(f"/{entra.tenant_id}/oauth2/v2.0/token", data=form(entra, **changes))


def test_azure_identity_gets_a_token(azure_emulators: Emulators) -> None:
    """A client secret buys a token of the wanted lifetime, and it is counted."""
    with credential(azure_emulators) as mine:
        before = time.time()
        token = mine.get_token_info(SCOPE)
    assert before + 3598 <= token.expires_on <= time.time() + 3600
    requests = azure_emulators.entra.requests
    assert (requests.requested, requests.issued, requests.discovery) == (1, 1, 1)
    assert dict(requests.by_grant) == {"client_secret": 1}
    assert dict(requests.by_outcome) == {"200": 1}


def test_the_claims_are_those_of_an_azure_resource_token(entra_emulator: EntraEmulator) -> None:
    """A token names resource, issuer, tenant, application and roles as Azure's own do."""
    application = entra_emulator.application
    claims = claims_of(entra_emulator.issue(resource="https://cognitiveservices.azure.com").value)
    assert claims["aud"] == "https://cognitiveservices.azure.com"
    assert claims["iss"] == f"https://sts.windows.net/{application.tenant_id}/"
    assert (claims["tid"], claims["appid"]) == (application.tenant_id, application.client_id)
    assert claims["oid"] == claims["sub"] == application.object_id
    assert claims["roles"] == ["CognitiveServices.OpenAI.User"]
    assert claims["ver"] == "1.0"
    assert claims["exp"] - claims["iat"] in {3600, 3601}
    assert all(isinstance(claims[name], int) for name in ("iat", "nbf", "exp"))


def test_no_two_tokens_are_equal(entra_emulator: EntraEmulator) -> None:
    """Even tokens of one moment differ."""
    resource = "https://cognitiveservices.azure.com"
    assert len({entra_emulator.issue(resource=resource).value for _ in range(20)}) == 20


def test_the_published_keys_verify_the_token(
    http: httpx.Client, entra_emulator: EntraEmulator
) -> None:
    """Whoever reads discovery and keys can verify a token without knowing us."""
    tenant = entra_emulator.tenant_id
    found = http.get(f"/{tenant}/v2.0/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(http.get(found["jwks_uri"]).json())
    token = entra_emulator.issue(resource="api://x").value
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="api://x", algorithms=["RS256"])["tid"] == tenant
    assert entra_emulator.requests.jwks == 1


def test_a_new_signing_key_stands_beside_the_old_one_or_in_its_place(
    http: httpx.Client, azure_emulators: Emulators
) -> None:
    """Tokens are good as long as their key is published, to those who verify and to Azure OpenAI."""
    entra, url = azure_emulators.entra, f"/{azure_emulators.entra.tenant_id}/discovery/v2.0/keys"

    def kid(token: str) -> Any:
        return jwt.get_unverified_header(token)["kid"]

    def published() -> list[Any]:
        return [each["kid"] for each in http.get(url).json()["keys"]]

    resource = "https://cognitiveservices.azure.com"
    old = entra.issue(resource=resource).value
    entra.rotate_signing_key()
    new = entra.issue(resource=resource).value
    assert published() == [kid(old), kid(new)]
    keys = jwt.PyJWKSet.from_dict(http.get(url).json())
    for token in (old, new):
        jwt.decode(token, keys[kid(token)], audience=resource, algorithms=["RS256"])
        assert _models(azure_emulators, token) == 200
    entra.rotate_signing_key(keep=False)
    assert kid(old) not in published()
    assert kid(new) not in published()
    assert _models(azure_emulators, old) == 401
    assert _models(azure_emulators, entra.issue(resource=resource).value) == 200


def _models(emulators: Emulators, token: str) -> int:
    url = f"{emulators.azure.base_url}/models"
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code


def test_instance_metadata_leads_to_discovery(
    http: httpx.Client, entra_emulator: EntraEmulator
) -> None:
    """The document MSAL asks for when instance discovery is on points back at us."""
    authority, tenant = entra_emulator.authority, entra_emulator.tenant_id
    answer = http.get(
        "/common/discovery/instance",
        params={
            "api-version": "1.1",
            "authorization_endpoint": f"{authority}/{tenant}/oauth2/v2.0/authorize",
        },
    ).json()
    assert http.get(answer["tenant_discovery_endpoint"]).json()["issuer"].endswith(f"{tenant}/v2.0")
    assert answer["metadata"][0]["aliases"] == [authority.removeprefix("https://")]


@pytest.mark.parametrize(("lifetime", "refresh_in"), [(7199.0, None), (7200.0, 3600)])
def test_long_lived_tokens_say_when_to_refresh(
    http: httpx.Client, entra_emulator: EntraEmulator, lifetime: float, refresh_in: int | None
) -> None:
    """`refresh_in` comes with tokens of two hours or more, and is half of it."""
    entra_emulator.token_lifetime = lifetime
    answer = ask(http, entra_emulator).json()
    assert answer["expires_in"] == answer["ext_expires_in"] == int(lifetime)
    assert answer.get("refresh_in") == refresh_in


def test_the_secret_may_come_by_http_basic(
    http: httpx.Client, entra_emulator: EntraEmulator
) -> None:
    """Discovery promises client_secret_basic."""
    asked = form(entra_emulator)
    pair = f"{asked.pop('client_id')}:{asked.pop('client_secret')}"
    header = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    path = f"/{entra_emulator.tenant_id}/oauth2/v2.0/token"
    assert http.post(path, data=asked, headers=header).status_code == 200


REFUSALS = [
    ({"client_secret": "wrong-secret-value"}, (401, "invalid_client", 7000215)),
    ({"client_id": "nobody"}, (400, "unauthorized_client", 700016)),
    ({"scope": "nonsense"}, (400, "invalid_scope", 70011)),
    ({"scope": "https://cognitiveservices.azure.com/"}, (400, "invalid_scope", 70011)),
    ({"scope": f"{SCOPE} openid"}, (400, "invalid_scope", 70011)),
    ({"scope": ""}, (400, "invalid_request", 900144)),
    ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
    ({"client_secret": ""}, (401, "invalid_client", 7000216)),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSALS)
def test_refusals_have_the_real_form(
    http: httpx.Client,
    entra_emulator: EntraEmulator,
    changes: Mapping[str, str],
    expected: tuple[int, str, int],
) -> None:
    """Each mistake has its status, its OAuth error and its AADSTS code."""
    answer = ask(http, entra_emulator, **changes)
    body = answer.json()
    code = body["error_codes"][0]
    assert (answer.status_code, body["error"], code) == expected
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert f" Trace ID: {body['trace_id']} Correlation ID: " in body["error_description"]
    assert body["error_description"].endswith(f"Timestamp: {body['timestamp']}")
    assert body["error_uri"].endswith(f"/error?code={code}")
    assert "wrong-secret-value" not in answer.text
    assert dict(entra_emulator.requests.by_outcome) == {f"AADSTS{code}": 1}
    assert entra_emulator.requests.issued == 0


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("oauth2/v2.0/token", "invalid_request"),
        ("v2.0/.well-known/openid-configuration", "invalid_tenant"),
    ],
)
def test_an_unknown_tenant(
    http: httpx.Client, entra_emulator: EntraEmulator, path: str, error: str
) -> None:
    """The token endpoint and discovery call the same mistake by different names."""
    method = "POST" if "token" in path else "GET"
    answer = http.request(method, f"/no-such-tenant/{path}", data=form(entra_emulator))
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_codes"] == [90002]


def test_the_clients_correlation_id_comes_back(
    http: httpx.Client, entra_emulator: EntraEmulator
) -> None:
    """What the client sent as client-request-id is what an operator searches the logs for."""
    path = f"/{entra_emulator.tenant_id}/oauth2/v2.0/token"
    answer = http.post(path, data={}, headers={"client-request-id": "my-request"})
    assert answer.json()["correlation_id"] == "my-request"


def test_azure_identity_surfaces_a_wrong_secret(azure_emulators: Emulators) -> None:
    """The error's text is Entra's."""
    with (
        credential(azure_emulators, client_secret="not-it") as mine,
        pytest.raises(
            ClientAuthenticationError, match="AADSTS7000215: Invalid client secret"
        ) as caught,
    ):
        mine.get_token(SCOPE)
    assert "not-it" not in str(caught.value)


def test_azure_identity_surfaces_an_unknown_application(azure_emulators: Emulators) -> None:
    """The error's text is Entra's."""
    with (
        credential(azure_emulators, client_id="nobody") as mine,
        pytest.raises(
            ClientAuthenticationError, match="AADSTS700016: Application with identifier 'nobody'"
        ),
    ):
        mine.get_token(SCOPE)


def test_azure_identity_hides_the_unknown_tenant(azure_emulators: Emulators) -> None:
    """MSAL asks discovery first, and replaces the text of its refusal by its own."""
    with (
        credential(azure_emulators, tenant_id="no-such-tenant") as mine,
        pytest.raises(ClientAuthenticationError, match="double check your tenant name"),
    ):
        mine.get_token(SCOPE)


def test_an_expired_secret_and_its_successor(azure_emulators: Emulators) -> None:
    """An expired secret has its own code; a rotated one works at once, and the old no more."""
    entra = azure_emulators.entra
    entra.expire_secrets()
    with (
        credential(azure_emulators) as mine,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000222"),
    ):
        mine.get_token(SCOPE)
    old = entra.application.client_secret.get_secret_value()
    entra.rotate_secret()
    with credential(azure_emulators) as mine:
        assert mine.get_token(SCOPE).token
    with (
        credential(azure_emulators, client_secret=old) as mine,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        mine.get_token(SCOPE)


def test_a_second_tenant_and_several_secrets(azure_emulators: Emulators) -> None:
    """Applications of other tenants are served side by side, and any secret that lives will do."""
    other = azure_emulators.entra.register(
        Application(
            tenant_id="second-tenant",
            client_id="second-app",
            secrets=[ClientSecret.of("old"), "new"],
            roles=["A", "B"],
        )
    )
    for secret in ("old", "new"):
        with credential(
            azure_emulators, tenant_id="second-tenant", client_id="second-app", client_secret=secret
        ) as mine:
            claims = claims_of(mine.get_token(SCOPE).token)
        assert (claims["tid"], claims["appid"], claims["roles"]) == (
            "second-tenant",
            "second-app",
            ["A", "B"],
        )
    assert other.client_secret.get_secret_value() == "new"


def test_the_clock_of_the_service_is_not_ours() -> None:
    """Issue times and error stamps follow the injected clock."""
    with Emulators(clock=lambda: 1_000_000_000.25, token_lifetime=3.0) as emu:
        claims = claims_of(emu.entra.issue(resource="api://x").value)
        context = ssl.create_default_context(cafile=str(emu.ca_bundle))
        with httpx.Client(verify=context, base_url=emu.entra.authority) as http:
            stamp = http.post(f"/{emu.entra.tenant_id}/oauth2/v2.0/token").json()["timestamp"]
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (
        1_000_000_000,
        1_000_000_000,
        1_000_000_003,
    )
    assert stamp == "2001-09-09 01:46:40Z"


def test_a_fault_strikes_the_token_endpoint_alone_unless_told(azure_emulators: Emulators) -> None:
    """azure-identity's discovery does not use up the faults meant for the token request."""
    entra = azure_emulators.entra
    entra.fault(Fault.status(503), times=1)
    with (
        credential(azure_emulators) as mine,
        pytest.raises(ClientAuthenticationError, match="HTTP Error: 503"),
    ):
        mine.get_token(SCOPE)
    with credential(azure_emulators) as mine:  # the old one would replay the 503 from memory
        assert mine.get_token(SCOPE).token
    assert dict(entra.requests.by_outcome) == {"503": 1, "200": 1}
    entra.fault(Fault.status(500), on="discovery")
    with credential(azure_emulators) as mine, pytest.raises(ClientAuthenticationError):
        mine.get_token(SCOPE)
    with pytest.raises(ValueError, match="on must be one of"):
        entra.fault(Fault.status(500), on="tokens")


def test_nothing_else_is_there(http: httpx.Client) -> None:
    """Other paths are 404, in JSON."""
    answer = http.get("/")
    assert answer.status_code == 404
    assert json.loads(answer.text)
