"""The canary in the proxy: no token, and no caller's credential, where people or machines read."""

import json
from pathlib import Path

import httpx
import pytest
from canary import Canary
from families import FAMILY
from proxying import CHAT, QUESTION, STREAMED, caller, proxying, raw

from lightspeed_azure import AzureEntraIDManager, LlamaStackConfiguration
from lightspeed_azure.emulators import Emulators, Fault

pytestmark = pytest.mark.integration

KEY = "canary-key-of-a-caller-of-the-proxy"


async def test_the_proxy(
    manager: AzureEntraIDManager,
    emulators: Emulators,
    stack_url: str,
    canary: Canary,
    tmp_path: Path,
) -> None:
    """Answers, refusals, renewals, floods and faults: nothing secret in logs, errors or metrics."""
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    stack = LlamaStackConfiguration(url=stack_url)
    canary.watch(caller=KEY, strange="canary-of-a-stranger", data="canary-provider-data")
    known = {"Authorization": f"Bearer {KEY}", FAMILY.header: '{"x": "canary-provider-data"}'}
    inbound = {"kind": "api_keys", "api_keys_file": str(keys)}
    async with (
        proxying(stack, manager, inbound=inbound, body_limit=4096, header_limit=2048) as proxy,
        caller(proxy) as http,
        httpx.AsyncClient(base_url=proxy.admin_url, trust_env=False) as admin,
    ):
        answers = [await http.post(CHAT, json=QUESTION, headers=known)]
        canary.watch(first=manager.access_token.get_secret_value())
        emulators.azure.revoke_all_issued_before_now()
        answers.append(await http.post(CHAT, json=STREAMED, headers=known))
        canary.watch(second=manager.access_token.get_secret_value())
        before = emulators.azure.audiences
        emulators.azure.audiences = ["https://another.example"]
        answers.append(await http.post(CHAT, json=QUESTION, headers=known))
        emulators.azure.audiences = before
        canary.watch(third=manager.access_token.get_secret_value())
        strange = {"Authorization": "Bearer canary-of-a-stranger"}
        answers.append(await http.post(CHAT, json=QUESTION, headers=strange))
        answers.append(await http.post(CHAT, content=b"{" + b"x" * 5000, headers=known))
        answers.append(await http.post(CHAT, content=b"{canary-provider-data", headers=known))
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}".encode()
        for bad in (b"x" * 3000, b"\r\n folded: " + KEY.encode(), b"\r\nX: " + b"\xff"):
            canary.read(**{f"raw {bad[:3]!r}": await raw(proxy, head + bad + b"\r\n\r\n")})
        emulators.entra.fault(Fault.status(503))
        manager.identity().cache.invalidate(manager.access_token)
        answers.append(await http.post(CHAT, json=QUESTION, headers=known))
        assert [each.status_code for each in answers] == [200, 200, 401, 401, 413, 400, 503]
        told = [
            await admin.get(path) for path in ("/metrics", "/status", "/readyz", "/openapi.json")
        ]
        for number, answer in enumerate([*answers, *told]):
            canary.texts[f"answer {number}"] = f"{answer.text} {answer.headers!r}"
        canary.read(proxy=proxy, parts=vars(proxy), config=proxy.config, url=proxy.url)
        canary.texts["dumped"] = json.dumps(proxy.config.model_dump(), default=str)
