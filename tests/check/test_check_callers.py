"""`lightspeed-azure check` asks for the keys that the proxy's callers are checked against."""

import sys
from pathlib import Path

import pytest
from check_support import check
from issuer import key, serving

from lightspeed_azure.demo.processes import free_port

AUDIENCE = "audience: llm-proxy"


def callers(folder: Path, inbound: str, host: str = "127.0.0.1") -> list[tuple[str, str, str]]:
    """Return what the doctor says about callers: state, finding and cure."""
    file = folder / "lightspeed-stack.yaml"
    file.write_text(
        f"llama_stack: {{url: 'http://127.0.0.1:{free_port()}'}}\n"
        f"proxy: {{host: '{host}', inbound: {{{inbound}}}}}\n"
    )
    _, findings = check(file)
    return [(each["state"], each["found"], each["cure"]) for each in findings["callers"]]


def test_an_issuer_that_answers(tmp_path: Path) -> None:
    """At jwks_uri, or where each issuer's own document says."""
    with serving() as issuer, serving() as other:
        for each in (issuer, other):
            each.publish([key(), key("ES256")])
        names = "https://sso.test/realms/main, urn:x"
        inbound = f"kind: jwt, issuer: [{names}], jwks_uri: '{issuer.url}/jwks', {AUDIENCE}"
        assert callers(tmp_path, inbound) == [("ok", f"show a JWT of {names} (keys: 2)", "")]
        inbound = f"kind: jwt, issuer: ['{issuer.url}', '{other.url}'], {AUDIENCE}"
        assert callers(tmp_path, inbound) == [
            ("ok", f"show a JWT of {each.url} (keys: 2)", "") for each in (issuer, other)
        ]


def test_an_issuer_that_does_not(tmp_path: Path) -> None:
    """What is wrong and what to do, as the proxy would log it; one issuer hides no other."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    inbound = f"kind: jwt, issuer: urn:x, jwks_uri: '{nowhere}/keys', {AUDIENCE}"
    cure = "Check the host and port in proxy.inbound.{}, and that the service runs"
    found = ("failed", f"{nowhere}/keys: connection refused", cure.format("jwks_uri"))
    assert callers(tmp_path, inbound) == [found]
    with serving() as issuer:
        issuer.publish([key()])
        inbound = f"kind: jwt, issuer: ['{nowhere}', '{issuer.url}'], {AUDIENCE}"
        assert callers(tmp_path, inbound) == [
            (
                "failed",
                f"{nowhere}/.well-known/openid-configuration: connection refused",
                cure.format("issuer"),
            ),
            ("ok", f"show a JWT of {issuer.url} (keys: 1)", ""),
        ]
        inbound = f"kind: jwt, issuer: urn:x, jwks_uri: '{issuer.url}/nowhere', {AUDIENCE}"
        assert callers(tmp_path, inbound) == [
            ("failed", f"{issuer.url}/nowhere answers 404", "Check the address")
        ]


def test_a_certificate_authority_that_is_missing(tmp_path: Path) -> None:
    """A file that the configuration names is read, too."""
    missing = tmp_path / "ca.pem"
    missing.write_text("nothing")
    inbound = f"kind: jwt, issuer: 'https://sso.test', ca_bundle: '{missing}', {AUDIENCE}"
    found = "proxy.inbound.ca_bundle: holds no certificate in PEM, or cannot be read"
    cure = "Name the file with the issuer's authority"
    assert callers(tmp_path, inbound) == [("failed", found, cure)]


def test_other_kinds(tmp_path: Path) -> None:
    """Keys in a file are counted; without a check it is said who may call."""
    keys = tmp_path / "api_keys"
    keys.write_text("a-key-of-more-than-16\nanother-key-of-more-than-16\n")
    assert callers(tmp_path, f"kind: api_keys, api_keys_file: '{keys}'") == [
        ("ok", f"show a key of {keys} (keys: 2)", "")
    ]
    assert callers(tmp_path, "") == [
        ("ok", "show nothing; everyone who reaches 127.0.0.1 may call", "")
    ]
    ((state, found, cure),) = callers(tmp_path, "", host="0.0.0.0")  # noqa: S104 - refused
    assert (state, found.partition(":")[0]) == ("failed", "proxy.inbound.kind")
    assert cure.startswith("Set kind: jwt or api_keys")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What verifies signatures may be missing where the doctor runs; that hides nothing else."""
    monkeypatch.setitem(sys.modules, "lightspeed_azure.proxy.inbound.bearer_jwt", None)
    inbound = f"kind: jwt, issuer: urn:x, jwks_uri: 'https://localhost/keys', {AUDIENCE}"
    assert callers(tmp_path, inbound) == [
        (
            "warning",
            "show a JWT; the keys of urn:x were not asked for",
            "pip install 'lightspeed-azure[proxy]'",
        )
    ]
