"""What an operator writes about who may call: every slip is told with its key and its cure."""

from pathlib import Path
from typing import Any

import pytest
from issuer import headers
from multidict import CIMultiDict

from lightspeed_azure.config import ProxyConfiguration
from lightspeed_azure.config.block import LocatedConfigurationError
from lightspeed_azure.config.inbound import (
    ALGORITHMS,
    ApiKeysInbound,
    JwtInbound,
    OpenInbound,
    inbound,
)
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import InboundRejected, check_exposure, make_inbound

JWT: dict[str, Any] = {"kind": "jwt", "issuer": "https://sso.example.test", "audience": "llm-proxy"}


def test_the_least_that_is_needed() -> None:
    """A single issuer or audience needs no list; algorithms are the two that issuers use by default."""
    config = JwtInbound(**JWT)
    assert config.issuer == ("https://sso.example.test",)
    assert config.audience == ("llm-proxy",)
    assert config.algorithms == ("RS256", "ES256")
    assert not {"HS256", "HS384", "HS512", "none"} & set(ALGORITHMS)


def test_an_issuer_is_kept_letter_by_letter() -> None:
    """Its slash, its port and its case belong to it."""
    issuers = ["https://sts.windows.net/1/", "https://SSO.Example.test:443", "accounts.example"]
    config = JwtInbound(**JWT | {"issuer": issuers, "jwks_uri": "https://a.test/keys"})
    assert list(config.issuer) == issuers


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "oauth"}, "kind: must be one of jwt, api_keys, none"),
        ({"kind": "jwt"}, "issuer: is missing"),
        ({"kind": "jwt"}, "audience: is missing"),
        (JWT | {"issuer": []}, "issuer: is missing"),
        (JWT | {"issuer": 5}, "issuer: must be a list of texts"),
        (JWT | {"issuer": ["a", 5]}, "issuer: must be text"),
        (JWT | {"issuer": "sso.example.test"}, "issuer: is no URL.*give jwks_uri"),
        (JWT | {"issuer": ["https://a", "urn:b"]}, r"issuer\[1\]: is no URL"),
        (JWT | {"issuer": "http://keycloak.sso.svc/realms/a"}, "issuer: would fetch the keys over"),
        (JWT | {"jwks_uri": "http://keycloak.sso.svc/certs"}, "jwks_uri: would fetch the keys"),
        (JWT | {"jwks_uri": "keycloak/certs"}, "jwks_uri: is not a URL"),
        (JWT | {"jwks_uri": "https://me:s3cret@a/certs"}, "jwks_uri: must not hold a user name"),
        (JWT | {"algorithms": ["RS256", "HS256"]}, "algorithms: must name asymmetric"),
        (JWT | {"algorithms": ["hs256"]}, "algorithms: must name asymmetric"),
        (JWT | {"algorithms": ["none"]}, "algorithms: must name asymmetric"),
        (JWT | {"algorithms": ["None"]}, "algorithms: must name asymmetric"),
        (JWT | {"algorithms": ["RS257"]}, "algorithms: must name some of RS256"),
        (JWT | {"algorithms": []}, "algorithms: is empty"),
        (JWT | {"leeway": -1}, "leeway: "),
        (JWT | {"leeway": 3600}, "leeway: "),
        (JWT | {"leeway": "30"}, "leeway: must be a number of seconds"),
        (JWT | {"key_cooldown": 0}, "key_cooldown: must be more than 0"),
        (JWT | {"required_claims": ["a"]}, "required_claims: must be a map"),
        (JWT | {"required_claims": {"a": []}}, "required_claims: has a claim without a value"),
        (JWT | {"required_scopes": ['a"b']}, "required_scopes: must be scopes"),
        (JWT | {"required_scopes": ["a b"]}, "required_scopes: must be scopes"),
        (JWT | {"api_keys_file": "/keys"}, "api_keys_file: belongs to kind: api_keys"),
        (JWT | {"allow_unauthenticated": True}, "allow_unauthenticated: belongs to kind: none"),
        ({"kind": "api_keys"}, "api_keys_file: is missing"),
        ({"kind": "api_keys", "api_keys_file": "/k", "audience": "a"}, "audience: belongs to kind"),
        ({"audience": "a"}, "audience: belongs to kind: jwt"),
        ({"kind": "none", "isuer": "a"}, "isuer: there is no such key; did you mean issuer"),
    ],
    ids=str,
)
def test_a_slip_is_told_with_its_cure(given: dict[str, Any], said: str) -> None:
    """A key that would be ignored is a slip too: it seems to close what stays open."""
    with pytest.raises(InvalidConfigurationError, match=said) as caught:
        inbound(given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (
            {
                "kind": "jwt",
                "isuer": "x",
                "api_keys_file": "/k",
                "audience": "a",
                "issuer": "https://a",
            },
            [
                "inbound.isuer: there is no such key; did you mean issuer?",
                "inbound.api_keys_file: belongs to kind: api_keys; remove it, or change the kind",
            ],
        ),
        (
            {"api_keys_file": "/k", "isuer": "x", "whatever": 1},
            [
                "inbound.api_keys_file: belongs to kind: api_keys; remove it, or change the kind",
                "inbound.isuer: there is no such key; did you mean issuer?",
                (
                    "inbound.whatever: there is no such key; "
                    "the keys are allow_unauthenticated, kind"
                ),
            ],
        ),
        (
            {"kind": "oauth", "leeway": 30, "isuer": "x"},
            [
                "inbound.kind: must be one of jwt, api_keys, none",
                "inbound.isuer: there is no such key; did you mean issuer?",
            ],
        ),
        ({"kind": 5}, ["inbound.kind: must be one of jwt, api_keys, none"]),
        (
            {"kind": "none", 1: 2},
            ["inbound.1: there is no such key; the keys are allow_unauthenticated, kind"],
        ),
        ("jwt", ["inbound: must be a map; write kind: jwt below it"]),
    ],
    ids=str,
)
def test_each_kind_has_its_own_keys(block: Any, lines: list[str]) -> None:
    """A key of another kind is told from a misspelt one; all problems come at once."""
    with pytest.raises(LocatedConfigurationError) as caught:
        ProxyConfiguration(inbound=block)
    assert [problem.line() for problem in caught.value.located] == lines


def test_the_kind_chooses_the_block() -> None:
    """Without a block, or without a kind, callers show nothing."""
    assert ProxyConfiguration().inbound == OpenInbound()
    for block, kind in (({"kind": None}, "none"), (JWT, "jwt"), (JWT | {"kind": " jwt "}, "jwt")):
        assert ProxyConfiguration(inbound=block).inbound.kind == kind  # type: ignore[arg-type]
    keys = {"kind": "api_keys", "api_keys_file": "/keys"}
    found = ProxyConfiguration(inbound=keys).inbound  # type: ignore[arg-type]
    assert found == ApiKeysInbound(api_keys_file=Path("/keys"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/certs", "http://localhost/certs"])
def test_plain_http_is_for_this_machine(url: str) -> None:
    """Or for where the operator says so in words."""
    assert JwtInbound(**JWT | {"jwks_uri": url}).jwks_uri == url
    inside = "http://keycloak.sso.svc:8080/realms/a/protocol/openid-connect/certs"
    given = JWT | {"jwks_uri": inside, "allow_insecure": True}
    assert JwtInbound(**given).jwks_uri == inside


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_everybody_is_let_in_on_loopback(host: str) -> None:
    """Without a block, whoever is on this machine may call."""
    check_exposure(OpenInbound(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.5", "proxy.example.test"])  # noqa: S104 - what is refused
def test_everybody_elsewhere_must_be_asked_for_in_words(host: str) -> None:
    """Whoever reaches the address could spend tokens; with JWTs or keys that is decided."""
    with pytest.raises(InvalidConfigurationError, match="allow_unauthenticated: true"):
        check_exposure(OpenInbound(), host)
    check_exposure(OpenInbound(allow_unauthenticated=True), host)
    check_exposure(JwtInbound(**JWT), host)
    check_exposure(ApiKeysInbound(api_keys_file=Path("/keys")), host)


async def test_none_lets_everybody_in() -> None:
    """With a credential or without."""
    everybody = make_inbound(OpenInbound())
    await everybody.start()
    await everybody.admit(headers())
    await everybody.admit(headers("Bearer x", "Basic y"))
    assert everybody.status().ready
    await everybody.close()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("Host", "127.0.0.1:8080")], None),
        ([("Host", "localhost")], None),
        ([("Host", "[::1]:8080"), ("Origin", "http://localhost:3000")], None),
        ([], None),
        ([("Host", "evil.example:8080")], "foreign"),
        ([("Host", "127.0.0.1"), ("Origin", "https://evil.example")], "foreign"),
        ([("Host", "127.0.0.1"), ("Origin", "null")], "foreign"),
        ([("Host", "127.0.0.1"), ("Host", "evil.example")], "foreign"),
        ([("Host", "[")], "foreign"),
    ],
)
async def test_no_web_page_spends_tokens(
    headers: list[tuple[str, str]], reason: str | None
) -> None:
    """Without authentication only this machine's own names are answered to; browsers tell others."""
    shown = CIMultiDict(headers)
    try:
        await make_inbound(OpenInbound()).admit(shown)
        rejected = None
    except InboundRejected as error:
        rejected = (error.reason, error.status, error.headers)
    assert rejected == (reason and (reason, 403, {}))
    await make_inbound(OpenInbound(allow_unauthenticated=True)).admit(shown)
