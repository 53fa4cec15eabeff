"""What callers show is nowhere but in their request: no log, error, metric, status or span has it."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary import Canary, watching
from inbound_support import Pause, clock_now, jwt_config, started
from issuer import Issuer, bearing, claims, headers, key, serving, sign
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from token_cache_fakes import FakeClock
from watched import Source, watched

from lightspeed_azure.config.inbound import ApiKeysInbound
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.metrics import Metrics
from lightspeed_azure.proxy.inbound import Inbound, InboundRejected, make_inbound
from lightspeed_azure.proxy.otel import OpenTelemetry
from lightspeed_azure.proxy.status import Status

KEYS = ["cAn4ry-key-number-one", "cAn4ry-key-number-two"]


@pytest.fixture(name="issuer")
def _issuer() -> Iterator[Issuer]:
    """Return an issuer with one key."""
    with serving() as issuer:
        issuer.publish([key()])
        yield issuer


async def judge(
    inbound: Inbound, shown: Any, canary: Canary, name: str, metrics: Metrics
) -> str | None:
    """Let a caller try; add what the answer, a debugger and a pickle would show.

    Returns:
        Why the caller was rejected; None for one who was let in.
    """
    reason = None
    try:
        await inbound.admit(shown)
    except InboundRejected as rejected:
        reason = str(rejected.reason)
        metrics.rejected(rejected.reason)
        canary.read_error(name, rejected)
        canary.read(**{f"{name} headers": rejected.headers, f"{name} message": rejected.message})
        canary.texts[f"{name} pickled"] = repr(pickle.dumps(rejected))
    canary.read(**{f"{name} status": inbound.status(), f"{name} fields": vars(inbound)})
    return reason


def watch(canary: Canary, token: str) -> None:
    """Look for a token, and for each of its parts that could be used."""
    number = len(canary.secrets)
    canary.watch(**{f"token {number}": token})
    parts = token.split(".")
    if len(parts) == 3 and len(parts[2]) > 16:
        canary.watch(**{f"claims {number}": parts[1], f"signature {number}": parts[2]})


async def test_jwts(issuer: Issuer) -> None:
    """Good ones, bad ones of every kind, while keys rotate and while the issuer is down."""
    good = sign(claims(sub="cAn4ry-subject", roles="user"))
    head, body, signature = good.split(".")
    tokens: dict[str, tuple[str, str | None]] = {
        "good": (good, None),
        "without the role": (sign(claims(sub="cAn4ry-other")), None),
        "expired": (sign(claims(exp=1, sub="cAn4ry-expired")), "expired"),
        "audience": (sign(claims(aud="other-audience", sub="cAn4ry")), "audience"),
        "issuer": (sign(claims(iss="https://other-issuer.test", sub="cAn4ry")), "issuer"),
        "kid": (sign(claims(), header={"kid": "cAn4ry-kid"}), "unknown_key"),
        "alg": (sign(claims(sub="cAn4ry"), header={"alg": "other-alg"}), "algorithm"),
        "crit": (sign(claims(), header={"crit": ["cAn4ry-crit"]}), "critical_header"),
        "key": (sign(claims(), by=key("RS256", 1), header={"kid": "RS256-0"}), "signature"),
        "malformed": ("cAn4ry-malformed-token", "malformed"),
        "text": (sign(b"cAn4ry-payload"), "malformed"),
        "no Base64": (f"{head}.cAn4ry-claims.{signature}", "malformed"),  # 13 characters
        "no signature": (f"{head}.{body}.cAn4ry-signed", "malformed"),
        "number": (sign(b'{"cAn4ry": %s}' % (b"9" * 5000)), "malformed"),
        "deep": (sign(b'{"cAn4ry": %s' % (b"[" * 20000)), "malformed"),
    }
    metrics, clock = Metrics(), clock_now()
    with watching() as canary:
        canary.watch(marker="cAn4ry")
        for required in ({}, {"roles": ["user"]}):
            config = jwt_config(issuer, required_claims=required)
            async with started(config, clock, Pause()) as inbound:
                for name, (token, expected) in tokens.items():
                    watch(canary, token)
                    if required and name == "without the role":
                        expected = "claim"  # noqa: PLW2901 - the only one that differs
                    found = await judge(inbound, bearing(token), canary, name, metrics)
                    assert found == expected, name
                    shown = headers(f"Basic {token}")
                    found = await judge(inbound, shown, canary, f"basic {name}", metrics)
                    assert found == "scheme"
                    shown = headers(f"Bearer {token}", f"Bearer {token}")
                    found = await judge(inbound, shown, canary, f"twice {name}", metrics)
                    assert found == "several"
                canary.read(inbound=inbound)
                try:
                    canary.texts["pickled"] = repr(pickle.dumps(inbound))
                except (TypeError, AttributeError, pickle.PicklingError) as error:
                    canary.read_error("pickling", error)
        issuer.fault(Fault.status(503))
        async with started(jwt_config(issuer), clock, Pause()) as inbound:
            found = await judge(inbound, bearing(good), canary, "no keys", metrics)
            assert found == "keys_unavailable"
            manager = watched(FakeClock(), Source(), "azure")
            status = Status(manager, inbound=inbound.status)
            canary.texts["status"] = json.dumps(status.as_json())
            metrics.watch(manager).watch_inbound(inbound.status)
            canary.texts["metrics"] = metrics.exposition()[0].decode()
            assert "lightspeed_azure_inbound_rejections_total" in canary.texts["metrics"]
    for each in ("other-issuer", "other-audience", "other-alg"):  # for the operator alone
        places = [where for where, text in canary.texts.items() if each in text]
        assert places == ["the debug log"]


async def test_api_keys(tmp_path: Path) -> None:
    """Good ones and unknown ones, a file that breaks while it serves, and one that never was good."""
    file = tmp_path / "api_keys"
    config = ApiKeysInbound(api_keys_file=file)
    metrics, clock = Metrics(), clock_now()
    with watching() as canary:
        canary.watch(marker="cAn4ry", other="n0b0dys-key-of-16")
        _write(file, "\n".join(KEYS))
        inbound = make_inbound(config, clock=clock)
        await inbound.start()
        for content in ("\n".join(KEYS), f"{KEYS[0]} {KEYS[1]}", "sha256:cAn4ry", ""):
            _write(file, content)
            clock.mono_now += 1
            for number, shown in enumerate([KEYS[0], "n0b0dys-key-of-16", "cAn4ry"]):
                expected = "api_key" if number else None  # the first one stays known
                for kind, given in (("bearer", bearing(shown)), ("api", headers(api_key=shown))):
                    name = f"{kind} {number} {len(content)}"
                    assert await judge(inbound, given, canary, name, metrics) == expected
        canary.read(inbound=inbound, config=config, dump=config.model_dump())
        for content in (f"{KEYS[0]} {KEYS[1]}", "cAn4ry"):
            _write(file, content)
            with pytest.raises(InvalidConfigurationError) as caught:
                await make_inbound(config).start()
            canary.read_error(f"never good {len(content)}", caught.value)
        canary.texts["metrics"] = metrics.exposition()[0].decode()


def _write(file: Path, content: str) -> None:
    file.write_text(content)


def test_spans() -> None:
    """Neither headers nor the text of an error reach the exporter."""
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracing = OpenTelemetry(provider, is_own=True)
    sent: dict[str, str] = {}
    with pytest.raises(ValueError, match="cAn4ry"):
        _go_wrong(tracing, sent)
    tracing.close()
    assert len(spans.get_finished_spans()) == 2
    for each in spans.get_finished_spans():
        assert "cAn4ry" not in each.to_json()
    assert list(sent) == ["traceparent"]


def _go_wrong(tracing: OpenTelemetry, sent: dict[str, str]) -> None:
    shown = headers("Bearer cAn4ry", cookie="cAn4ry", baggage="user=cAn4ry")
    with tracing.serving("POST", "/v1/x", shown):
        with tracing.calling("POST", "/v1/x", "stack", 8321) as span:
            span.inject(sent)
        raise ValueError("cAn4ry")
