"""Real issuers: a certified OpenID Connect server, and Entra ID's tokens, keys and authority."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from canary import watching
from inbound_support import Pause, clock_now, reason, started
from issuer import bearing
from oidc_server import AUDIENCE, ISSUER, OidcServer, oidc_server

from lightspeed_azure import AzureEntraIDManager
from lightspeed_azure.config.inbound import JwtInbound
from lightspeed_azure.emulators import Emulators

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", name="oidc")
def _oidc(pytestconfig: pytest.Config) -> Iterator[OidcServer]:
    assert pytestconfig.cache is not None
    with oidc_server(pytestconfig.cache.mkdir("oidc")) as server:
        yield server


def keycloak_like(oidc: OidcServer, **more: Any) -> JwtInbound:
    """Return the configuration of a proxy in the same cluster as the issuer."""
    usual: dict[str, Any] = {
        "kind": "jwt",
        "issuer": ISSUER,
        "jwks_uri": f"{oidc.url}/jwks",
        "audience": AUDIENCE,
    }
    return JwtInbound(**usual | more)


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
async def test_tokens_of_an_openid_connect_server(oidc: OidcServer, alg: str) -> None:
    """Each algorithm, its audience, its scope; keys from the address inside, issuer as outside."""
    token = await asyncio.to_thread(oidc.token, alg=alg)
    foreign = await asyncio.to_thread(oidc.token, alg=alg, audience="another")
    config = keycloak_like(oidc, algorithms=[alg], required_scopes=["llm.invoke"])
    async with started(config) as inbound:
        assert await reason(inbound, bearing(token)) is None
        assert await reason(inbound, bearing(foreign)) == "audience"
        assert await reason(inbound, bearing(token[:-8] + "AAAAAAAA")) == "signature"
    async with started(keycloak_like(oidc, algorithms=[alg], required_scopes=["admin"])) as inbound:
        assert await reason(inbound, bearing(token)) == "scope"


async def test_the_trap_inside_a_cluster(oidc: OidcServer) -> None:
    """Discovery at the address inside tells the name outside; the cure is said, and works."""
    token = await asyncio.to_thread(oidc.token)
    trapped = keycloak_like(oidc, issuer=oidc.url, jwks_uri=None)
    async with started(trapped) as inbound:
        assert await reason(inbound, bearing(token)) == "issuer"
        said = inbound.status().last_error
        assert ISSUER in said
        assert "jwks_uri" in said
    async with started(keycloak_like(oidc)) as inbound:
        assert await reason(inbound, bearing(token)) is None


async def test_an_openid_connect_server_rotates_its_keys(oidc: OidcServer) -> None:
    """New keys are found by the first token; dropped ones let nobody in after the next fetch."""
    clock, pause = clock_now(), Pause()
    async with started(keycloak_like(oidc), clock, pause) as inbound:
        old = bearing(await asyncio.to_thread(oidc.token))
        assert await reason(inbound, old) is None
        await asyncio.to_thread(oidc.rotate, keep=True)
        clock.mono_now += 11
        new = bearing(await asyncio.to_thread(oidc.token))
        assert await reason(inbound, new) is None
        assert await reason(inbound, old) is None
        await asyncio.to_thread(oidc.rotate, keep=False)
        newest = bearing(await asyncio.to_thread(oidc.token))
        clock.mono_now += 11
        assert await reason(inbound, newest) is None
        assert await reason(inbound, old) == "unknown_key"
        assert await reason(inbound, new) == "unknown_key"
        assert inbound.status().reloads == 3


async def test_a_token_of_an_openid_connect_server_expires(oidc: OidcServer) -> None:
    """At the moment that the server says, and the leeway."""
    token = bearing(await asyncio.to_thread(oidc.token, seconds=20))
    clock = clock_now()
    async with started(keycloak_like(oidc, leeway=5), clock) as inbound:
        assert await reason(inbound, token) is None
        clock.wall_now += 27
        assert await reason(inbound, token) == "expired"


def entra(emulators: Emulators, **more: Any) -> JwtInbound:
    """Return the configuration for Entra ID's application tokens, version 1.0."""
    tenant = emulators.entra.tenant_id
    usual: dict[str, Any] = {
        "kind": "jwt",
        "issuer": f"https://sts.windows.net/{tenant}/",
        "jwks_uri": f"{emulators.entra.authority}/{tenant}/discovery/v2.0/keys",
        "audience": "api://llm-proxy",
        "ca_bundle": emulators.ca_bundle,
    }
    return JwtInbound(**usual | more)


async def test_tokens_that_azure_identity_gets(azure_emulators: Emulators) -> None:
    """A caller signs in for the proxy with the real azure-identity; the keys come over private TLS."""
    application = azure_emulators.entra.application
    caller = AzureEntraIDManager.isolated(
        {
            "tenant_id": application.tenant_id,
            "client_id": application.client_id,
            "client_secret": application.client_secret,
            "authority_host": azure_emulators.entra.authority,
            "ca_bundle": azure_emulators.ca_bundle,
            "scope": "api://llm-proxy/.default",
        }
    )
    with watching() as canary:
        token = (await caller.aget_token()).get_secret_value()
        canary.watch(token=token, signature=token.rpartition(".")[2])
        caller.close()
        async with started(entra(azure_emulators)) as inbound:
            assert await reason(inbound, bearing(token)) is None
            canary.read(inbound=inbound, fields=vars(inbound), status=inbound.status())
        other = entra(azure_emulators, required_claims={"appid": "somebody-else"})
        async with started(other) as inbound:
            assert await reason(inbound, bearing(token)) == "claim"


async def test_entra_id_rotates_its_keys_without_notice(azure_emulators: Emulators) -> None:
    """Tokens by the new key are let in at once, those by a withdrawn key no more."""
    issuer, clock = azure_emulators.entra, clock_now()

    def shown() -> str:
        return issuer.issue(resource="api://llm-proxy").value

    async with started(entra(azure_emulators), clock) as inbound:
        first = bearing(shown())
        assert await reason(inbound, first) is None
        issuer.rotate_signing_key()
        clock.mono_now += 11
        assert await reason(inbound, bearing(shown())) is None
        assert await reason(inbound, first) is None
        issuer.rotate_signing_key(keep=False)
        clock.mono_now += 11
        assert await reason(inbound, bearing(shown())) is None
        assert await reason(inbound, first) == "unknown_key"
        assert issuer.requests.jwks == 3


async def test_another_tenant_is_another_issuer(azure_emulators: Emulators) -> None:
    """Entra ID signs for all tenants with the same keys: the issuer alone keeps them apart."""
    config = entra(azure_emulators, issuer="https://sts.windows.net/another/")
    async with started(config) as inbound:
        token = azure_emulators.entra.issue(resource="api://llm-proxy").value
        assert await reason(inbound, bearing(token)) == "issuer"
