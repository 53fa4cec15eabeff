"""Whatever is in the headers, a caller is let in or rejected with a reason, and nothing else happens."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inbound_support import jwt_config, rejection
from issuer import claims, headers, key, serving, sign

from lightspeed_azure.config.inbound import ApiKeysInbound
from lightspeed_azure.proxy.inbound import Inbound, Reason, make_inbound

RUNS = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = ["alg", "kid", "typ", "crit", "cty", "b64", "iss", "aud", "exp", "nbf", "scope", "x"]
VALUES = JSON | st.sampled_from(["RS256", "none", "HS256", "RS256-0", "JWT", [], {}, 1e308, -1])
MEMBERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
type Judges = tuple[asyncio.Runner, Inbound, Inbound]

API_KEY = "cAn4ry-key-number-one"

CHARACTERS = st.text(st.characters(min_codepoint=1, max_codepoint=0x24F) | st.just("\udc80"))


@pytest.fixture(scope="module", name="judges")
def _judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judges]:
    """Return a judge of JWTs and one of API keys, on an event loop of their own."""
    keys: Path = tmp_path_factory.mktemp("keys") / "api_keys"
    keys.write_text(f"{API_KEY}\n")
    with serving() as issuer, asyncio.Runner() as runner:
        issuer.publish([key(), key("ES256")])
        jwt = make_inbound(jwt_config(issuer))
        api = make_inbound(ApiKeysInbound(api_keys_file=keys))
        runner.run(jwt.start())
        runner.run(api.start())
        yield runner, jwt, api
        runner.run(jwt.close())


def judged(judges: Judges, *values: str, api_key: str | None = None) -> set[bool]:
    """Judge by both; check what they say; return whether one let the caller in."""
    runner, *each = judges
    shown = headers(*values) if api_key is None else headers(*values, api_key=api_key)
    let_in = set()
    for inbound in each:
        rejected = runner.run(rejection(inbound, shown))
        if rejected is None:
            let_in.add(True)
            continue
        assert rejected.reason in Reason
        assert rejected.status in (401, 403, 503)
        for value in rejected.headers.values():
            assert value.isascii()
            assert value.isprintable()
        for value in (*values, api_key or ""):
            secret = value.partition(" ")[2]
            assert len(secret) < 12 or secret not in f"{rejected.headers} {rejected!r}"
    return let_in


def test_good_callers_are_let_in(judges: Judges) -> None:
    """Otherwise the tests below would prove nothing."""
    assert judged(judges, f"Bearer {sign(claims())}") == {True}
    assert judged(judges, f"Bearer {sign(claims(), alg='ES256')}") == {True}
    assert judged(judges, api_key=API_KEY) == {True}


@RUNS
@given(values=st.lists(CHARACTERS, max_size=3), api_key=st.none() | CHARACTERS)
def test_no_header_breaks_it(judges: Judges, values: list[str], api_key: str | None) -> None:
    """Any text, in any number of headers."""
    assert judged(judges, *values, api_key=api_key) == set()


@RUNS
@given(parts=st.lists(st.binary(max_size=60), min_size=1, max_size=6))
@example(parts=[b'{"alg":"RS256"}', b"{}", b""])
def test_no_token_of_any_bytes_breaks_it(judges: Judges, parts: list[bytes]) -> None:
    """Any bytes in the place of header, claims and signature."""
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    assert judged(judges, f"Bearer {text}") == set()


@RUNS
@given(header=MEMBERS, body=MEMBERS)
@example(header={}, body={})
@example(header={"typ": "JWT"}, body={"scope": "x", "aud": ["llm-proxy", 1]})
def test_no_signed_token_breaks_it(
    judges: Judges, header: dict[str, object], body: dict[str, object]
) -> None:
    """Any members, signed with a good key: who is let in has a good header and good claims."""
    usual = claims()
    token = sign({**usual, **body}, header=header)
    let_in = judged(judges, f"Bearer {token}")
    assert let_in or header or body, "the usual token is good"
    if let_in:
        assert header.get("alg", "RS256") == "RS256"
        assert header.get("crit") is None  # `sign` leaves None out
        assert body.get("iss", usual["iss"]) == usual["iss"]
        assert "aud" not in body or "llm-proxy" in json.dumps(body["aud"])


@RUNS
@given(position=st.integers(0, 2000), character=st.sampled_from("AZaz09-_.=+/ \t,\u00e9"))
@example(position=0, character="e")
def test_no_changed_letter_of_a_token_goes_unseen(
    judges: Judges, position: int, character: str
) -> None:
    """Every letter of a token matters, but those bits at a part's end that mean nothing."""
    token = sign({**claims(), "iat": 1, "nbf": 1, "exp": 4102444800})
    position %= len(token)
    spoilt = f"{token[:position]}{character}{token[position + 1 :]}"
    let_in = judged(judges, f"Bearer {spoilt}")
    assert let_in or spoilt != token, "the token itself is good"
    if let_in:
        assert _meaning(spoilt) == _meaning(token)


def _meaning(token: str) -> list[bytes]:
    return [
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.strip().split(".")
    ]
