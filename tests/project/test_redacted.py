"""Values whose repr shows nothing, and which are otherwise what they were."""

import json
import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from lightspeed_azure.secrets import RedactedDict, RedactedStr, redacted

SECRET = "s3cret"


def test_a_text_is_hidden_from_repr_alone() -> None:
    """It is sent, compared and joined like any other text."""
    text = RedactedStr(SECRET)
    assert repr(text) == "<redacted>"
    assert f"{[text]} {(text,)!r}" == "[<redacted>] (<redacted>,)"
    assert (text, hash(text), f"{text}", text.encode()) == (SECRET, hash(SECRET), SECRET, b"s3cret")
    assert json.dumps(text) == f'"{SECRET}"'


def test_a_mapping_is_hidden_from_repr_and_str() -> None:
    """Keys are hidden too: a misplaced secret may be one."""
    data = RedactedDict({"key": SECRET, SECRET: 1})
    assert (repr(data), str(data), f"{data}") == ("<redacted>",) * 3
    assert data == {"key": SECRET, SECRET: 1}
    assert json.loads(json.dumps(data)) == data


@pytest.mark.parametrize(
    "given", [{"key": SECRET}, MappingProxyType({"key": SECRET}), {"key": {"inner": SECRET}}]
)
def test_a_configuration_is_hidden(given: Mapping[str, Any]) -> None:
    """Any mapping, and any list of them; other values stay the objects they are."""
    other = object()
    hidden = redacted([given, other, "text"])
    assert hidden == [given, other, "text"]
    assert SECRET not in repr(hidden)
    assert redacted(other) is other


def test_a_traceback_with_locals_shows_no_value() -> None:
    """The twin with a plain dict shows that the test can see one."""

    def fail(data: Mapping[str, str]) -> None:
        raise ValueError(f"{len(data)} keys")

    shown = []
    for data in ({"key": SECRET}, redacted({"key": SECRET})):
        with pytest.raises(ValueError, match=r"^1 keys$") as caught:
            fail(data)
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        shown.append(SECRET in str(told.stack[-1].locals))
    assert shown == [True, False]
