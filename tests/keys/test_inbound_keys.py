"""The keys of an issuer: rotated, fetched no more often than need be, kept while it is down."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inbound_support import Pause, clock_now, jwt_config, reason, rejection, started
from issuer import Issuer, bearing, claims, key, serving, sign
from joserfc import jwt

from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.proxy.inbound import InboundRejected, make_inbound
from lightspeed_azure.proxy.inbound.jwt import VerificationKey, algorithms_of, unverified

OLD, NEW = key("RS256"), key("RS256", 1)


@pytest.fixture(name="issuer")
def _issuer() -> Iterator[Issuer]:
    """Return an issuer with one key."""
    with serving() as issuer:
        issuer.publish([OLD])
        yield issuer


async def test_a_new_key_is_fetched_when_its_first_token_comes(issuer: Issuer) -> None:
    """The caller who shows it waits for that, and is let in."""
    clock = clock_now()
    async with started(jwt_config(issuer), clock) as inbound:
        issuer.publish([OLD, NEW])
        clock.mono_now += 11
        assert await reason(inbound, bearing(sign(claims(), by=NEW))) is None
        assert issuer.asked == ["/jwks"] * 2
        assert await reason(inbound, bearing(sign(claims(), by=OLD))) is None
        assert await reason(inbound, bearing(sign(claims(sub="else"), by=NEW))) is None
        assert len(issuer.asked) == 2


async def test_unknown_keys_cause_one_fetch_and_no_more_until_the_cooldown_ends(
    issuer: Issuer,
) -> None:
    """Whoever invents names of keys does not make us flood the issuer."""
    clock = clock_now()
    async with started(jwt_config(issuer), clock) as inbound:
        clock.mono_now += 11
        shown = [bearing(sign(claims(), header={"kid": f"invented-{n}"})) for n in range(20)]
        said = await asyncio.gather(*(reason(inbound, each) for each in shown))
        assert said == ["unknown_key"] * 20
        assert len(issuer.asked) == 2, "one flight for all"
        clock.mono_now += 9.9
        assert await reason(inbound, shown[0]) == "unknown_key"
        assert len(issuer.asked) == 2
        clock.mono_now += 0.2
        assert await reason(inbound, shown[0]) == "unknown_key"
        assert len(issuer.asked) == 3


@pytest.mark.parametrize(
    "more",
    [{"iss": "https://attacker.test"}, {"exp": 1}, {"aud": "other"}, {"nbf": 2**40}],
    ids=str,
)
async def test_a_token_that_is_wrong_in_itself_causes_no_fetch(
    issuer: Issuer, more: dict[str, Any]
) -> None:
    """What cannot be let in with any key needs none."""
    clock = clock_now()
    async with started(jwt_config(issuer), clock) as inbound:
        clock.mono_now += 1000
        forged = sign(claims(**more), header={"kid": "invented"})
        assert await reason(inbound, bearing(forged)) not in (None, "unknown_key")
        assert len(issuer.asked) == 1


async def test_a_dropped_key_lets_nobody_in_any_more(issuer: Issuer) -> None:
    """Not even a token that was good before and is remembered, once the keys are fetched again."""
    clock, pause = clock_now(), Pause()
    async with started(jwt_config(issuer), clock, pause) as inbound:
        token = bearing(sign(claims(), by=OLD))
        assert await reason(inbound, token) is None
        issuer.publish([NEW])
        await _next_fetch(issuer, pause, 2)
        assert pause.asked == [300.0, 300.0]
        assert await reason(inbound, token) == "unknown_key"
        assert await reason(inbound, bearing(sign(claims(), by=NEW))) is None


async def test_another_key_of_the_same_name_is_another_key(issuer: Issuer) -> None:
    """A remembered token is tied to the key itself."""
    pause = Pause()
    async with started(jwt_config(issuer), clock_now(), pause) as inbound:
        token = bearing(sign(claims(), by=OLD))
        assert await reason(inbound, token) is None
        impostor: Any = NEW.as_dict(private=False) | {"kid": OLD.kid}
        issuer.document = {"keys": [impostor]}
        await _next_fetch(issuer, pause, 2)
        assert await reason(inbound, token) == "signature"


FAULTS = {
    "503": Fault.status(503),
    "404": Fault.status(404),
    "reset": Fault.reset(),
    "truncated": Fault.truncated(),
    "a portal's page": Fault.not_json(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_last_good_keys_stay_while_the_issuer_is_down(
    issuer: Issuer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With one warning for the outage, and a word when it ends."""
    caplog.set_level(logging.INFO, logger="lightspeed_azure.inbound")
    clock, pause = clock_now(), Pause()
    async with started(jwt_config(issuer), clock, pause) as inbound:
        issuer.fault(FAULTS[fault])
        for fetches in (2, 3):
            await _next_fetch(issuer, pause, fetches)
        assert pause.asked == [300.0, 10.0, 10.0], "sooner again after a failure"
        assert await reason(inbound, bearing(sign(claims()))) is None
        state = inbound.status()
        assert (state.ready, state.keys, state.failures) == (True, 1, 2)
        assert f"{issuer.url}/jwks" in state.last_error
        issuer.recover()
        await _next_fetch(issuer, pause, 4)
        assert inbound.status().last_error == ""
        assert inbound.status().reloads == 1, "they are the same as before"
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "The last ones stay in use" in warnings[0].getMessage()
        assert "can be had again" in caplog.text


USELESS: dict[str, object] = {
    "no keys": {"keys": []},
    "no set": {"key": 1},
    "keys no list": {"keys": {"a": 1}},
    "a list": [1],
    "secrets only": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]},
    "for encryption": {"keys": [{**OLD.as_dict(private=False), "use": "enc"}]},
    "for other operations": {"keys": [{**OLD.as_dict(private=False), "key_ops": ["encrypt"]}]},
    "weak": {
        "keys": [{"kty": "RSA", "kid": "RS256-0", "n": "w" * 171, "alg": "RS256", "e": "AQAB"}]
    },
    "broken": {
        "keys": [1, None, {}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]
    },
    "odd": {
        "keys": [
            {"kty": ["RSA"]},
            {**OLD.as_dict(private=False), "kid": 1},
            {**OLD.as_dict(private=False), "n": 5},
            {**OLD.as_dict(private=False), "key_ops": "verify"},
        ]
    },
}


@pytest.mark.filterwarnings("ignore")  # joserfc warns of weak keys, and takes them
@pytest.mark.parametrize("case", USELESS)
async def test_keys_that_are_of_no_use_replace_none(issuer: Issuer, case: str) -> None:
    """A set without a key for signatures counts as a failure."""
    pause = Pause()
    async with started(jwt_config(issuer), clock_now(), pause) as inbound:
        issuer.document = USELESS[case]
        await _next_fetch(issuer, pause, 2)
        assert inbound.status().failures == 1
        assert await reason(inbound, bearing(sign(claims()))) is None


async def test_of_a_mixed_set_the_good_keys_are_taken(issuer: Issuer) -> None:
    """A key that is not understood spoils no other (RFC 7517, section 5); private parts stay unread."""
    broken: Any = USELESS["broken"]
    issuer.document = {"keys": [*broken["keys"], {"kty": "AKP"}, OLD.as_dict(private=True)]}
    async with started(jwt_config(issuer)) as inbound:
        assert inbound.status().keys == 1
        assert await reason(inbound, bearing(sign(claims()))) is None


async def test_a_symmetric_key_verifies_nothing(issuer: Issuer) -> None:
    """Whoever can verify with it can sign, so neither its type nor its algorithm is accepted."""
    secret = key("HS256")
    issuer.document = {"keys": [secret.as_dict(private=True), OLD.as_dict(private=False)]}
    token = sign(claims(), alg="HS256", by=secret)
    async with started(jwt_config(issuer)) as inbound:
        assert inbound.status().keys == 1
        assert await reason(inbound, bearing(token)) == "algorithm"
        renamed = sign(claims(), alg="HS256", by=secret, header={"alg": "RS256"})
        assert await reason(inbound, bearing(renamed)) == "unknown_key"
        assert await reason(inbound, bearing(sign(claims()))) is None
    assert jwt.decode(token, secret, algorithms=["HS256"]).claims["aud"] == "llm-proxy"
    assert not algorithms_of(secret)
    assert not VerificationKey("x", "x", algorithms_of(secret), secret).verifies(
        unverified(token), "HS256"
    )
    forced = VerificationKey("x", "x", frozenset({"HS256"}), secret)
    with pytest.raises(InboundRejected):  # nor does the registry of algorithms know it
        forced.verifies(unverified(token), "HS256")


async def test_a_key_is_used_only_for_what_it_says(issuer: Issuer) -> None:
    """A key for PS256 verifies no RS256."""
    issuer.document = {"keys": [{**OLD.as_dict(private=False), "alg": "PS256"}]}
    async with started(jwt_config(issuer, algorithms=["PS256", "RS256"])) as inbound:
        assert await reason(inbound, bearing(sign(claims(), alg="PS256", by=OLD))) is None
        assert await reason(inbound, bearing(sign(claims(), by=OLD))) == "unknown_key"


async def test_a_token_without_a_kid_is_judged_by_the_only_key(issuer: Issuer) -> None:
    """With two that fit nobody can say which is meant."""
    unnamed = sign(claims(), by=OLD, header={"kid": None})
    async with started(jwt_config(issuer)) as inbound:
        assert await reason(inbound, bearing(unnamed)) is None
    issuer.publish([OLD, NEW])
    async with started(jwt_config(issuer)) as inbound:
        assert await reason(inbound, bearing(unnamed)) == "unknown_key"


async def test_it_starts_while_the_issuer_is_down(issuer: Issuer) -> None:
    """Callers get 503 with Retry-After until there are keys; then they are let in by themselves."""
    issuer.fault(Fault.status(503))
    clock, pause = clock_now(), Pause()
    async with started(jwt_config(issuer), clock, pause) as inbound:
        assert not inbound.status().ready
        rejected = await rejection(inbound, bearing(sign(claims())))
        assert rejected is not None
        assert (rejected.reason, rejected.status) == ("keys_unavailable", 503)
        assert rejected.headers == {"Retry-After": "1"}
        assert len(issuer.asked) == 1, "a crowd without keys does not flood the issuer either"
        clock.mono_now += 1
        assert await reason(inbound, bearing(sign(claims()))) == "keys_unavailable"
        assert len(issuer.asked) == 2
        issuer.recover()
        await _next_fetch(issuer, pause, 3)
        assert pause.asked[0] == 1.0
        assert inbound.status().ready
        assert await reason(inbound, bearing(sign(claims()))) is None


async def test_a_caller_who_leaves_takes_no_fetch_with_him(issuer: Issuer) -> None:
    """The others wait on for the same one."""
    clock = clock_now()
    async with started(jwt_config(issuer), clock) as inbound:
        issuer.publish([NEW])
        clock.mono_now += 11
        issuer.fault(Fault.delay(0.05), times=1)
        shown = bearing(sign(claims(), by=NEW))
        leaver, stayer = (asyncio.create_task(inbound.admit(shown)) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        await stayer
        assert leaver.cancelled()
        assert len(issuer.asked) == 2


async def test_discovery_leads_to_the_keys(issuer: Issuer) -> None:
    """Without jwks_uri the issuer's own document is asked (OpenID Connect Discovery 1.0)."""
    config = jwt_config(issuer, issuer=[issuer.url], jwks_uri=None)
    async with started(config) as inbound:
        assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]
        assert await reason(inbound, bearing(sign(claims(iss=issuer.url)))) is None


async def test_an_issuer_with_a_slash_at_its_end_keeps_it(issuer: Issuer) -> None:
    """It belongs to the text, and not to the address of the document."""
    issuer.issuer = f"{issuer.url}/"
    config = jwt_config(issuer, issuer=[issuer.issuer], jwks_uri=None)
    async with started(config) as inbound:
        assert await reason(inbound, bearing(sign(claims(iss=issuer.issuer)))) is None
        assert await reason(inbound, bearing(sign(claims(iss=issuer.url)))) == "issuer"


async def test_discovery_under_another_name_is_refused_with_its_cure(issuer: Issuer) -> None:
    """The trap in a cluster: the name inside is not the one in the tokens."""
    issuer.issuer = "https://sso.example.test/realms/main"
    config = jwt_config(issuer, issuer=[issuer.url], jwks_uri=None)
    async with started(config) as inbound:
        assert await reason(inbound, bearing(sign(claims(iss=issuer.url)))) == "keys_unavailable"
        said = inbound.status().last_error
        assert "https://sso.example.test/realms/main" in said
        assert "jwks_uri" in said


async def test_keys_of_one_issuer_vouch_for_no_other(issuer: Issuer) -> None:
    """Two issuers found by discovery each answer for their own tokens."""
    with serving() as other:
        other.publish([NEW])
        config = jwt_config(issuer, issuer=[issuer.url, other.url], jwks_uri=None)
        async with started(config) as inbound:
            for where, by in ((issuer, OLD), (other, NEW)):
                assert await reason(inbound, bearing(sign(claims(iss=where.url), by=by))) is None
            forged = sign(claims(iss=issuer.url), by=NEW)
            assert await reason(inbound, bearing(forged)) == "unknown_key"
            renamed = sign(claims(iss=issuer.url), by=NEW, header={"kid": OLD.kid})
            assert await reason(inbound, bearing(renamed)) == "signature"


async def test_several_names_of_one_issuer_share_its_keys(issuer: Issuer) -> None:
    """With jwks_uri, the list is of names for whoever has these keys; each is compared as a text."""
    names = ["https://sso.example.test", "http://keycloak.sso.svc:8080", "urn:an:issuer"]
    async with started(jwt_config(issuer, issuer=names)) as inbound:
        for name in names:
            assert await reason(inbound, bearing(sign(claims(iss=name)))) is None
        assert issuer.asked == ["/jwks"]


async def test_a_private_authority_needs_its_certificate(tmp_path: Path) -> None:
    """With ca_bundle the keys come; without it there are none, and the cure is said."""
    authority = CertificateAuthority()
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.pem())
    with serving(authority) as issuer:
        issuer.publish([OLD])
        async with started(jwt_config(issuer, ca_bundle=bundle)) as inbound:
            assert await reason(inbound, bearing(sign(claims()))) is None
        async with started(jwt_config(issuer)) as inbound:
            assert await reason(inbound, bearing(sign(claims()))) == "keys_unavailable"
            assert "Set proxy.inbound.ca_bundle" in inbound.status().last_error
        asked = len(issuer.asked)
        bundle.write_bytes(CertificateAuthority().pem())
        async with started(jwt_config(issuer, ca_bundle=bundle)) as inbound:
            assert "Set proxy.inbound.ca_bundle" in inbound.status().last_error
        assert len(issuer.asked) == asked, "nothing was asked of whom nobody vouches for"


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"x", "no certificate")])
async def test_a_broken_authority_ends_the_start(
    issuer: Issuer, tmp_path: Path, content: bytes | None, said: str
) -> None:
    """It is a slip in the configuration, and no outage; later it is only an outage."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    inbound = make_inbound(jwt_config(issuer, ca_bundle=bundle))
    with pytest.raises(InvalidConfigurationError, match=rf"proxy\.inbound\.ca_bundle: .*{said}"):
        await inbound.start()
    await inbound.close()


async def test_a_rotated_authority_is_trusted_at_the_next_fetch(tmp_path: Path) -> None:
    """The file is read again each time."""
    bundle, authority = tmp_path / "ca.pem", CertificateAuthority()
    bundle.write_bytes(CertificateAuthority().pem())
    pause = Pause()
    with serving(authority) as issuer:
        issuer.publish([OLD])
        async with started(jwt_config(issuer, ca_bundle=bundle), clock_now(), pause) as inbound:
            assert not inbound.status().ready
            bundle.write_bytes(authority.pem())
            await _next_fetch(issuer, pause, 1)
            assert inbound.status().ready


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/redirect", "redirects elsewhere; give the address that it leads to"),
        ("/nowhere", "answers 404; check the address"),
    ],
)
async def test_a_wrong_address_is_told_with_its_cure(issuer: Issuer, path: str, said: str) -> None:
    """A redirect is not followed: keys come from where the operator says."""
    async with started(jwt_config(issuer, jwks_uri=issuer.url + path)) as inbound:
        assert inbound.status().last_error == f"{issuer.url}{path} {said}"
        assert "/jwks" not in issuer.asked


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("discovered", [False, True])
async def test_keys_that_only_some_may_read(issuer: Issuer, status: int, discovered: bool) -> None:
    """A Kubernetes API server answers so; the ClusterRole that allows it is named."""
    issuer.fault(Fault.status(status))
    more: dict[str, Any] = {"issuer": [issuer.url], "jwks_uri": None} if discovered else {}
    path = "/.well-known/openid-configuration" if discovered else "/jwks"
    async with started(jwt_config(issuer, **more)) as inbound:
        assert inbound.status().last_error == (
            f"{issuer.url}{path} answers {status}, so it cannot be read anonymously; allow that, in "
            "Kubernetes by binding the ClusterRole system:service-account-issuer-discovery to the "
            "group system:unauthenticated"
        )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"jwks_uri": "http://keys.example.test/jwks"}, "allow_insecure"),
        ({"jwks_uri": "file:///etc/passwd"}, "is not a URL of http or https"),
        ({"jwks_uri": None}, "names no jwks_uri"),
    ],
    ids=str,
)
async def test_discovery_leads_to_no_odd_place(
    issuer: Issuer, found: dict[str, object], said: str
) -> None:
    """What holds for jwks_uri in the configuration holds for the one that is discovered."""
    issuer.discovery = found
    config = jwt_config(issuer, issuer=[issuer.url], jwks_uri=None)
    async with started(config) as inbound:
        assert said in inbound.status().last_error


async def test_a_huge_document_is_not_read_to_its_end(issuer: Issuer) -> None:
    """More than a MiB of keys are no keys."""
    issuer.document = {"keys": [], "padding": "x" * (1 << 20)}
    async with started(jwt_config(issuer)) as inbound:
        assert "1 MiB" in inbound.status().last_error


async def test_nothing_runs_after_the_end(issuer: Issuer) -> None:
    """Neither the keeper of the keys, nor a fetch that hangs."""
    before = asyncio.all_tasks()
    pause = Pause()
    async with started(jwt_config(issuer), clock_now(), pause):
        issuer.fault(Fault.hang())
        pause.end()
        while len(issuer.asked) < 2:  # noqa: ASYNC110 - the issuer lives on another thread
            await asyncio.sleep(0.001)
    assert asyncio.all_tasks() == before


async def _next_fetch(issuer: Issuer, pause: Pause, number: int) -> None:
    """Let the keeper of the keys go on, and wait until it rests again."""
    rests = len(pause.asked)
    pause.end()
    while len(issuer.asked) < number or len(pause.asked) == rests:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.001)
