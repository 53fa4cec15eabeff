"""Only a JWT that keeps every rule is let in; each other one is told its own reason."""

import base64
import hmac
import json
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from inbound_support import clock_now, jwt_config, reason, rejection, started
from issuer import AUDIENCE, Issuer, bearing, claims, headers, key, rsa_pem, serving, sign
from token_cache_fakes import FakeClock

from lightspeed_azure.config.inbound import ALGORITHMS
from lightspeed_azure.proxy.inbound import Inbound, InboundRejected, Reason
from lightspeed_azure.proxy.inbound.presented import LONGEST

KEYS = ("RS256", "ES256", "ES384", "ES512", "Ed25519", "Ed448")


@pytest.fixture(scope="module", name="issuer")
def _issuer() -> Iterator[Issuer]:
    """Return an issuer with a key of each type."""
    with serving() as issuer:
        issuer.publish([key(alg) for alg in KEYS])
        yield issuer


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    return clock_now()


@pytest.fixture(name="inbound")
async def _inbound(issuer: Issuer, clock: FakeClock) -> AsyncIterator[Inbound]:
    """Return a judge of tokens with the usual rules."""
    async with started(jwt_config(issuer), clock) as inbound:
        yield inbound


async def test_a_good_token_is_let_in(inbound: Inbound) -> None:
    """It is from the issuer, for this audience, signed and in its time; and so is its second use."""
    token = sign(claims())
    assert await reason(inbound, bearing(token)) is None
    assert await reason(inbound, bearing(token)) is None


@pytest.mark.parametrize("alg", ALGORITHMS)
async def test_every_asymmetric_algorithm_is_verified(issuer: Issuer, alg: str) -> None:
    """Each works where it is configured, with the key of its type, and nowhere else."""
    by = key("RS256") if alg[:2] in ("RS", "PS") else key("Ed25519" if alg == "EdDSA" else alg)
    token = sign(claims(), alg=alg, by=by)
    async with started(jwt_config(issuer, algorithms=[alg])) as inbound:
        assert await reason(inbound, bearing(token)) is None
        head, body, signature = token.split(".")
        spoilt = f"{head}.{body}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
        assert await reason(inbound, bearing(spoilt)) == "signature"
    other = "ES256" if alg != "ES256" else "RS256"
    async with started(jwt_config(issuer, algorithms=[other])) as inbound:
        assert await reason(inbound, bearing(token)) == "algorithm"


def _tampered() -> str:
    head, _, signature = sign(claims()).split(".")
    return f"{head}.{sign(claims(sub='admin')).split('.')[1]}.{signature}"


def _confused() -> str:
    """Return a token whose HMAC is made with the public key, which everybody knows."""
    signed = sign(claims(), alg="HS256", header={"kid": "RS256-0"}).rpartition(".")[0]
    mac = hmac.digest(rsa_pem(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _nested() -> str:
    return sign(sign(claims()).encode(), header={"cty": "JWT"})


def _raw(body: str) -> str:
    return sign(body.encode())


def _now() -> int:
    return int(time.time())


def _good() -> str:
    """Return the JSON of good claims, without its end."""
    return json.dumps(claims())[:-1]


REJECTED: dict[str, tuple[Callable[[], str], str]] = {
    "tampered": (_tampered, "signature"),
    "another key of that name": (
        lambda: sign(claims(), by=key("RS256", 9), header={"kid": "RS256-0"}),
        "signature",
    ),
    "no signature": (lambda: sign(claims()).rpartition(".")[0] + ".", "signature"),
    "alg none": (lambda: sign(claims(), alg="none", by=key()), "algorithm"),
    "alg None": (lambda: sign(claims(), header={"alg": "None"}), "algorithm"),
    "hmac by the public key": (_confused, "algorithm"),
    "hmac by a secret": (lambda: sign(claims(), alg="HS256"), "algorithm"),
    "alg of another type of key": (
        lambda: sign(claims(), header={"kid": "ES256-0"}),
        "unknown_key",
    ),
    "no alg": (lambda: sign(claims(), header={"alg": None}), "algorithm"),
    "alg a list": (lambda: sign(claims(), header={"alg": ["RS256"]}), "algorithm"),
    "crit": (lambda: sign(claims(), header={"crit": ["exp"], "exp": 1}), "critical_header"),
    "crit empty": (lambda: sign(claims(), header={"crit": []}), "critical_header"),
    "b64": (lambda: sign(claims(), header={"b64": False}), "critical_header"),
    "typ of a logout token": (lambda: sign(claims(), header={"typ": "logout+jwt"}), "token_type"),
    "typ of a proof": (lambda: sign(claims(), header={"typ": "dpop+jwt"}), "token_type"),
    "typ a number": (lambda: sign(claims(), header={"typ": 1}), "token_type"),
    "nested": (_nested, "malformed"),
    "encrypted": (lambda: "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d", "encrypted"),
    "kid unknown": (lambda: sign(claims(), header={"kid": "nobody"}), "unknown_key"),
    "kid a path": (lambda: sign(claims(), header={"kid": "../../../../dev/null"}), "unknown_key"),
    "kid of a query": (lambda: sign(claims(), header={"kid": "x' UNION SELECT 'k"}), "unknown_key"),
    "kid a list": (lambda: sign(claims(), header={"kid": ["RS256-0"]}), "malformed"),
    "no kid, two keys": (
        lambda: sign(claims(), alg="RS256", header={"kid": None}, by=key("RS256", 9)),
        "signature",
    ),
    "jwk of its own": (
        lambda: sign(
            claims(), by=key("RS256", 9), header={"jwk": key("RS256", 9).as_dict(private=False)}
        ),
        "unknown_key",
    ),
    "jku of its own": (
        lambda: sign(claims(), by=key("RS256", 9), header={"jku": "https://attacker.test/jwks"}),
        "unknown_key",
    ),
    "no iss": (lambda: sign(claims(iss=None)), "missing_claim"),
    "iss a list": (
        lambda: sign(claims(iss=["https://sso.example.test/realms/main"])),
        "missing_claim",
    ),
    "iss with a slash": (
        lambda: sign(claims(iss="https://sso.example.test/realms/main/")),
        "issuer",
    ),
    "iss in capitals": (lambda: sign(claims(iss="https://SSO.example.test/realms/main")), "issuer"),
    "iss of another": (lambda: sign(claims(iss="https://attacker.test")), "issuer"),
    "no aud": (lambda: sign(claims(aud=None)), "missing_claim"),
    "aud of another": (lambda: sign(claims(aud="account")), "audience"),
    "aud list of others": (lambda: sign(claims(aud=["account", AUDIENCE + "x"])), "audience"),
    "aud empty": (lambda: sign(claims(aud=[])), "audience"),
    "aud an object": (lambda: sign(claims(aud={AUDIENCE: 1})), "audience"),
    "no exp": (lambda: sign(claims(exp=None)), "missing_claim"),
    "exp a text": (lambda: sign(claims(exp=str(_now() + 300))), "missing_claim"),
    "exp true": (lambda: sign(claims(exp=True)), "missing_claim"),
    "exp huge": (lambda: sign(claims(exp=10**20)), "missing_claim"),
    "a number past all": (lambda: _raw(_good() + ', "z": 1e999}'), "malformed"),
    "Infinity": (lambda: _raw(_good() + ', "z": Infinity}'), "malformed"),
    "NaN": (lambda: _raw(_good() + ', "z": NaN}'), "malformed"),
    "a number of 5000 digits": (lambda: _raw(_good() + ', "z": ' + "9" * 5000 + "}"), "malformed"),
    "aud twice": (lambda: _raw(_good() + f', "aud": "{AUDIENCE}"}}'), "malformed"),
    "expired": (lambda: sign(claims(exp=_now() - 60)), "expired"),
    "expired long ago": (lambda: sign(claims(exp=0)), "expired"),
    "not yet": (lambda: sign(claims(nbf=_now() + 120)), "not_yet_valid"),
    "nbf a text": (lambda: sign(claims(nbf="now")), "missing_claim"),
    "claims a list": (lambda: _raw("[1]"), "malformed"),
    "claims a text": (lambda: _raw('"x"'), "malformed"),
    "claims not JSON": (lambda: _raw("{"), "malformed"),
    "claims deep": (lambda: _raw("[" * 20000), "malformed"),
    "claims not UTF-8": (lambda: sign(b'{"a":"\xff"}'), "malformed"),
    "claims empty": (lambda: sign(b""), "malformed"),
    "two parts": (lambda: "a.b", "malformed"),
    "four parts": (lambda: "a.b.c.d", "malformed"),
    "words": (lambda: "password", "malformed"),
    "padding": (lambda: sign(claims()) + "==", "malformed"),
}


@pytest.mark.parametrize("case", REJECTED)
async def test_what_breaks_a_rule_is_not_let_in(inbound: Inbound, case: str) -> None:
    """Each fault has its reason, the answer is 401 with a challenge, and holds nothing of the token."""
    make, expected = REJECTED[case]
    token = make()
    rejected = await rejection(inbound, bearing(token))
    assert rejected is not None, "let in"
    assert rejected.reason == expected
    assert rejected.status == 401
    challenge = rejected.headers["WWW-Authenticate"]
    assert challenge.startswith(
        'Bearer realm="lightspeed-azure", error="invalid_token", error_desc'
    )
    for part in token.split("."):
        assert len(part) < 5 or part not in f"{rejected!r} {rejected.headers} {rejected.message}"
    assert await reason(inbound, bearing(token)) == expected, "the second time is like the first"


MISMATCHES: dict[str, tuple[Callable[[], str], str]] = {
    "iss": (
        lambda: sign(claims(iss="https://sso.example.test/realms/main/")),
        (
            "its iss is 'https://sso.example.test/realms/main/', but proxy.inbound.issuer is "
            "'https://sso.example.test/realms/main'"
        ),
    ),
    "aud": (
        lambda: sign(claims(aud=["account", 1])),
        "its aud is 'account', but proxy.inbound.audience is 'llm-proxy'",
    ),
    "alg": (
        lambda: sign(claims(), alg="PS256"),
        "its alg is 'PS256', but proxy.inbound.algorithms is 'RS256, ES256'",
    ),
    "a text with line breaks": (
        lambda: sign(claims(iss="x\n\u2028ERROR forged" + "y" * 1000)),
        (
            f"its iss is 'x\\n\\u2028ERROR forged{'y' * 185}', but proxy.inbound.issuer is "
            "'https://sso.example.test/realms/main'"
        ),
    ),
}


@pytest.mark.parametrize("case", MISMATCHES)
async def test_the_operator_sees_what_a_token_has_and_the_caller_does_not(
    inbound: Inbound, clock: FakeClock, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a minute says what is seen and what is expected; the answer repeats neither."""
    make, expected = MISMATCHES[case]
    token = make()
    for _ in range(3):
        rejected = await rejection(inbound, bearing(token))
        assert rejected is not None
        for text in (expected.split("'")[1], "sso.example", "llm-proxy", "RS256"):
            assert text not in f"{rejected!r} {rejected.message} {rejected.headers}"
    line = f"A caller's token was rejected: {expected}"
    assert [each.getMessage() for each in caplog.records] == [line]
    clock.mono_now += 60
    await rejection(inbound, bearing(token))
    assert [each.getMessage() for each in caplog.records] == [line] * 2


PRESENTED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "nothing": ((), "missing", ""),
    "an empty header": (("",), "missing", ""),
    "two headers": (("Bearer {}", "Bearer {}"), "several", "invalid_request"),
    "two in one": (("Bearer {}, Bearer {}",), "malformed", "invalid_token"),
    "another scheme": (("Basic dTpw",), "scheme", ""),
    "no scheme": (("{}",), "scheme", ""),
    "no token": (("Bearer",), "malformed", "invalid_token"),
    "no token but a space": (("Bearer ",), "malformed", "invalid_token"),
    "two words": (("Bearer {} {}",), "malformed", "invalid_token"),
    "no space": (("Bearer{}",), "scheme", ""),
    "a tab": (("Bearer\t{}",), "scheme", ""),
    "not ASCII": (("Bearer {}\u00e9",), "malformed", "invalid_token"),
    "lone surrogates": (("Bearer {}\udcff",), "malformed", "invalid_token"),
    "too long": (("Bearer " + "a" * LONGEST,), "too_large", "invalid_token"),
}


@pytest.mark.parametrize("case", PRESENTED)
async def test_a_token_stands_alone_in_one_header(inbound: Inbound, case: str) -> None:
    """What could be read in two ways is read in none; who tries no token is told no error code."""
    values, expected, code = PRESENTED[case]
    token = sign(claims())
    rejected = await rejection(inbound, headers(*(value.format(token, token) for value in values)))
    assert rejected is not None
    assert (rejected.reason, rejected.status) == (expected, 401)
    challenge = rejected.headers["WWW-Authenticate"]
    assert (f'error="{code}"' in challenge) if code else ("error" not in challenge)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  ", " Bearer "])
async def test_the_scheme_is_read_as_HTTP_has_it(inbound: Inbound, scheme: str) -> None:  # noqa: N802
    """Its case does not matter, nor how many spaces follow (RFC 9110, section 11.4)."""
    assert await reason(inbound, headers(scheme + sign(claims()))) is None


@pytest.mark.parametrize(
    "header",
    [
        {"typ": None},
        {"typ": "at+jwt"},
        {"typ": "application/at+jwt"},
        {"typ": "jwt"},
        {"x5t": "a", "nonce": "b"},
    ],
    ids=str,
)
async def test_headers_of_real_issuers_are_accepted(
    inbound: Inbound, header: dict[str, Any]
) -> None:
    """Types of access tokens, and parameters that are not understood (RFC 7515, section 4)."""
    assert await reason(inbound, bearing(sign(claims(), header=header))) is None


async def test_a_list_of_audiences_may_hold_ours(inbound: Inbound) -> None:
    """Keycloak writes a list."""
    assert await reason(inbound, bearing(sign(claims(aud=["account", AUDIENCE])))) is None


async def test_clocks_may_differ_by_the_leeway(inbound: Inbound, clock: FakeClock) -> None:
    """Up to 30 s, and not a moment longer, either way."""
    now = int(clock.wall_now) + 1
    clock.wall_now = now
    assert await reason(inbound, bearing(sign(claims(exp=now - 29)))) is None
    assert await reason(inbound, bearing(sign(claims(exp=now - 30)))) == "expired"
    assert await reason(inbound, bearing(sign(claims(nbf=now + 30)))) is None
    assert await reason(inbound, bearing(sign(claims(nbf=now + 31)))) == "not_yet_valid"


async def test_a_token_that_was_good_ends_all_the_same(inbound: Inbound, clock: FakeClock) -> None:
    """That it is remembered does not prolong it, and a clock set back does not make it good before."""
    token = sign(claims(exp=int(clock.wall_now) + 10))
    assert await reason(inbound, bearing(token)) is None
    clock.wall_now += 39
    assert await reason(inbound, bearing(token)) is None
    clock.wall_now += 2
    assert await reason(inbound, bearing(token)) == "expired"
    clock.wall_now -= 3600
    assert await reason(inbound, bearing(token)) == "not_yet_valid"


async def test_only_so_many_tokens_are_remembered(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shows ever new tokens takes no more memory."""
    monkeypatch.setattr("lightspeed_azure.proxy.inbound.bearer_jwt._MOST_VERIFIED", 3)
    async with started(jwt_config(issuer)) as inbound:
        tokens = [sign(claims(sub=str(number))) for number in range(9)]
        for token in [*tokens, *tokens]:
            assert await reason(inbound, bearing(token)) is None
        assert len(vars(inbound)["_verified"]) == 3


SCOPED: dict[str, dict[str, Any]] = {
    "scope": {"scope": "openid llm.invoke"},
    "scp as Entra ID writes it": {"scp": "llm.invoke"},
    "scp as Okta writes it": {"scp": ["openid", "llm.invoke"]},
}


@pytest.mark.parametrize("case", SCOPED)
async def test_required_scopes(issuer: Issuer, case: str) -> None:
    """All must be granted; who lacks one gets 403, and is told which are needed."""
    async with started(jwt_config(issuer, required_scopes=["llm.invoke"])) as inbound:
        assert await reason(inbound, bearing(sign(claims(**SCOPED[case])))) is None
    async with started(jwt_config(issuer, required_scopes=["llm.invoke", "b"])) as inbound:
        rejected = await rejection(inbound, bearing(sign(claims(**SCOPED[case]))))
        assert rejected is not None
        assert (rejected.reason, rejected.status) == ("scope", 403)
        assert 'error="insufficient_scope"' in rejected.headers["WWW-Authenticate"]
        assert 'scope="b llm.invoke"' in rejected.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("required", "more", "expected"),
    [
        ({"azp": "cli"}, {"azp": "cli"}, None),
        ({"azp": ["web", "cli"]}, {"azp": "cli"}, None),
        ({"azp": "cli"}, {"azp": "cli2"}, "claim"),
        ({"azp": "cli"}, {}, "claim"),
        ({"roles": "LLM.Invoke"}, {"roles": ["Other", "LLM.Invoke"]}, None),
        ({"realm_access.roles": "llm"}, {"realm_access": {"roles": ["llm"]}}, None),
        ({"realm_access.roles": "llm"}, {"realm_access": ["llm"]}, "claim"),
        ({"https://example.test/tier": "gold"}, {"https://example.test/tier": "gold"}, None),
        ({"email_verified": "true"}, {"email_verified": True}, None),
        ({"email_verified": "true"}, {"email_verified": False}, "claim"),
        ({"a": "1", "b": "2"}, {"a": "1"}, "claim"),
    ],
    ids=str,
)
async def test_required_claims(
    issuer: Issuer, required: dict[str, Any], more: dict[str, Any], expected: str | None
) -> None:
    """Each must be, or hold, one of its values, also where it lies deeper."""
    async with started(jwt_config(issuer, required_claims=required)) as inbound:
        rejected = await rejection(inbound, bearing(sign(claims(**more))))
        assert (rejected and str(rejected.reason)) == expected
        if rejected:
            assert rejected.status == 403


@pytest.mark.parametrize("each", Reason)
def test_a_rejection_can_be_pickled_and_its_challenge_parsed(each: Reason) -> None:
    """Every reason has a status; its header has quoted strings without quotes in them."""
    rejected = InboundRejected(each, "words", retry_after=3.2, scope="a b")
    again = pickle.loads(pickle.dumps(rejected))  # noqa: S301 - our own
    assert (again.reason, again.status, again.headers) == (each, rejected.status, rejected.headers)
    if each is Reason.KEYS_UNAVAILABLE:
        assert (rejected.status, rejected.headers) == (503, {"Retry-After": "4"})
    elif each is Reason.FOREIGN:
        assert (rejected.status, rejected.headers) == (403, {})
    else:
        assert rejected.headers["WWW-Authenticate"].count('"') % 2 == 0
