"""The environment's proxy for the stack: HTTPS only, and never one that keeps a service from starting."""

import logging

import pytest

from lightspeed_azure import AsyncLlamaStackClientHolder, AzureEntraIDManager
from lightspeed_azure.check.stack import StackService
from lightspeed_azure.clients.environment_proxy import environment_proxy
from lightspeed_azure.config import LlamaStackConfiguration

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("value", ["proxy.example:3128", "http://proxy.example:3128"])
def test_only_https_uses_a_proxy(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of a plain HTTP request would see the token."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert environment_proxy("https", "stack.example") == "http://proxy.example:3128"
    assert environment_proxy("http", "stack.example") is None
    assert environment_proxy("https", "127.0.0.1") is None
    monkeypatch.setenv("no_proxy", "stack.example")
    assert environment_proxy("https", "stack.example") is None


@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "socks5h://proxy.example:1080"])
async def test_a_socks_proxy_is_ignored_with_a_warning(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client of the stack is made all the same, and so is that of the doctor."""
    monkeypatch.setenv("ALL_PROXY", value)
    caplog.set_level(logging.WARNING)
    config = LlamaStackConfiguration(url="https://stack.example")
    holder = AsyncLlamaStackClientHolder.isolated(manager=AzureEntraIDManager.isolated())
    await holder.load(config)
    assert holder.is_loaded
    await holder.close()
    StackService(config).client().close()
    told = [record.getMessage() for record in caplog.records if "PROXY" in record.getMessage()]
    expected = (
        "The proxy in HTTPS_PROXY or ALL_PROXY is not an HTTP proxy, so it is not used for "
        "stack.example; set HTTPS_PROXY=http://host:port, or NO_PROXY=stack.example if no proxy "
        "is needed"
    )
    assert set(told) == {expected}
