"""Provider data: built, parsed, merged, and never a crash."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from lightspeed_azure.errors import ProviderDataError
from lightspeed_azure.provider_data import (
    azure_provider_data,
    encode,
    is_provider_data,
    merge,
    parse,
    parse_defaults,
    provider_keys,
    split,
    strip,
)


def test_azure_needs_both_fields() -> None:
    """`remote::azure` drops all provider data when one is missing, so both are always built."""
    data = azure_provider_data(SecretStr("t"), "https://x/openai/v1")
    assert data == {"azure_api_key": "t", "azure_api_base": "https://x/openai/v1"}


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_what_is_encoded_is_a_safe_header(data: dict[str, object]) -> None:
    """Whatever the values are, the header is printable ASCII, and parses back to the same."""
    value = encode(data)
    assert value.isascii()
    assert value.isprintable()
    assert parse(value) == data


@pytest.mark.parametrize(
    "value", ["", "null", "[]", '"text"', "12", "{", "secret-canary", "{'a': 1}"]
)
def test_what_is_no_object_is_an_error_without_the_value(value: str) -> None:
    """For one request it is the caller's error; as a default it counts as none."""
    with pytest.raises(ProviderDataError) as caught:
        parse(value)
    assert "secret-canary" not in str(caught.value)
    assert parse_defaults([value]) == {}


def test_a_bad_default_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """The warning does not show the value."""
    parse_defaults(["secret-canary"])
    assert "not a JSON object" in caplog.text
    assert "secret-canary" not in caplog.text


def test_later_parts_win_and_nothing_else_is_lost() -> None:
    """MCP headers and another provider's key stay."""
    merged = merge([{"mcp_headers": {"a": 1}, "azure_api_key": "old"}, {"azure_api_key": "new"}])
    assert merged == {"mcp_headers": {"a": 1}, "azure_api_key": "new"}


@pytest.mark.parametrize(
    "name",
    ["X-LlamaStack-Provider-Data", "x-llamastack-provider-data", "X-OGX-PROVIDER-DATA"],
)
def test_any_letter_case_is_provider_data(name: str) -> None:
    """HTTP header names have no letter case."""
    assert is_provider_data(name)
    headers = {name: "{}", "Accept": "x"}
    assert split(headers) == ({"Accept": "x"}, ["{}"])
    strip(headers)
    assert headers == {"Accept": "x"}


def test_what_a_stack_logs_of_provider_data_is_no_token() -> None:
    """Stacks log pydantic's error of a provider that misses its field: begin and end of the data."""

    class Validator(BaseModel):
        tavily_search_api_key: str

    token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9." + "payload" * 100 + ".and-the-signature"
    azure = azure_provider_data(SecretStr(token), "https://x/v1")
    keys = provider_keys({"azure": SecretStr(token), "azure-2": SecretStr(token)})
    for data in (azure, merge((keys, azure)), merge((keys, {"mcp_headers": {"a": "b"}}, azure))):
        with pytest.raises(ValidationError) as caught:
            Validator(**parse(encode(data)))
        assert "input_value={'" in str(caught.value), "it does show a part"
        assert token[:10] not in str(caught.value)
        assert token[-6:] not in str(caught.value)


def test_json_is_the_whole_encoding() -> None:
    """What the stack's `json.loads` sees is what was meant."""
    assert json.loads(encode({"a": "é\n"})) == {"a": "é\n"}
