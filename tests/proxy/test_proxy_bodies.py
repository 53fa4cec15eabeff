"""What the proxy reads in a request body, and what that costs."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_stack import COMPLETION, serving, stack
from hypothesis import given
from hypothesis import strategies as st
from proxying import CHAT, MODEL, QUESTION, command, most_memory

from lightspeed_azure.proxy.bodies import LONGEST_MODEL, LONGEST_TOOLS, parsed
from lightspeed_azure.proxy.errors import Failure

MEGABYTE = 1024 * 1024
SIZE = 16 * MEGABYTE
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.just(FUNCTION),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["model", "stream", "tools", "type", "x"]), inner),
    ),
    max_leaves=12,
)
PAIRS = st.lists(st.tuples(st.sampled_from(["model", "stream", "tools", "x"]), VALUES), max_size=6)


def written(pairs: list[tuple[str, Any]], *, ascii_only: bool) -> bytes:
    """Return a JSON object, duplicate keys included."""
    fields = [
        f"{json.dumps(name)} : {json.dumps(value, ensure_ascii=ascii_only, indent=1)}"
        for name, value in pairs
    ]
    return f" {{ {' , '.join(fields)} }}\n".encode()


@given(PAIRS, st.booleans())
def test_the_body_is_read_as_the_stack_reads_it(
    pairs: list[tuple[str, Any]], ascii_only: bool
) -> None:
    """`model` and `stream` are those that Python's json finds; so is whether all tools are functions."""
    body = written(pairs, ascii_only=ascii_only)
    read = json.loads(body)
    model, tools = read.get("model"), read.get("tools")
    only_functions = tools is None or (
        isinstance(tools, list)
        and all(isinstance(tool, dict) and tool.get("type") == "function" for tool in tools)
    )
    assert parsed(body) == {
        "model": model if isinstance(model, str) else None,
        "stream": read.get("stream") is True,
        "tools": not only_functions,
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model": "a", "model": "b"}', {"model": "b"}),
        (b'{"model": "b", "mod\\u0065l": "a"}', {"model": "a"}),
        (b'{"model": "b", "x": {"model": "a"}}', {"model": "b"}),
        (b'{"tools": [{"type": "function", "type": "web_search"}]}', {"tools": True}),
        (b'{"tools": [{"type": "web_search", "type": "function"}]}', {"tools": True}),
        (b'{"tools": [{"type": "functio\\u006e"}]}', {}),
        (b'{"stream": "true"}', {}),
        (b'{"stream": 1}', {}),
        (b'{"stream": false, "stream": true}', {"stream": True}),
        (b'{"model": "%s"}' % (b"a" * LONGEST_MODEL), {}),
        (b'{"model": "%s"}' % (b"a" * (LONGEST_MODEL - 2)), {"model": "a" * (LONGEST_MODEL - 2)}),
        (b'{"tools": [%s]}' % b",".join([b'{"type":"function"}'] * 50_000), {}),
        (b'{"tools": [{"type":"function"}%s]}' % (b" " * LONGEST_TOOLS), {"tools": True}),
    ],
)
def test_bodies_that_could_be_read_in_two_ways(body: bytes, expected: dict[str, Any]) -> None:
    """The last of two keys counts, escapes are read, and a doubt about tools means no repetition."""
    assert parsed(body) == {"model": None, "stream": False, "tools": False, **expected}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b'"x"', b"null", b"{", b"[" * 100_000, b'{"x":' + b"[" * 100_000, b"\xff"),
        *(b'{"a": NaN}', b'{"a": 1,}', b'{"a": 1} x', b"{'a': 1}", '{"a": 1}'.encode("utf-16")),
    ],
)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    """They are refused with 400; the text repeats none of them."""
    with pytest.raises(Failure) as caught:
        parsed(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert caught.value.message == "The body is not a JSON object"


FILLED = {
    "numbers": b'"x": [%s1]' % (b"1," * (SIZE // 2)),
    "keys": b'"x": {%s"b": 1}' % (b'"a":1,' * (SIZE // 6)),
    "top-level keys": b'%s"x": 1' % (b'"a":1,' * (SIZE // 6)),
    "nothing": b'"x": [%s[]]' % (b"[]," * (SIZE // 3)),
    "one text": '"x": "{}"'.format("a" * (SIZE - 4) + "\N{GRINNING FACE}").encode(),
    "model": '"model": "{}"'.format("a" * (SIZE - 4) + "\N{GRINNING FACE}").encode(),
    "stream": b'"stream": [%s1]' % (b"1," * (SIZE // 2)),
    "functions": b'"tools": [%s{"type":"function"}]' % (b'{"type":"function"},' * (SIZE // 20)),
    "tools": b'"tools": [%s{}]' % (b"{}," * (SIZE // 3)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_large_body_takes_little_memory(tmp_path: Path) -> None:
    """Whatever the JSON is: the proxy needs at most two and a half times the body's size."""
    got: list[int] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
        got.append(size)
        return web.json_response(COMPLETION)

    async with (
        serving(stack(handle)) as url,
        command(url, tmp_path) as running,
        running.client() as http,
    ):
        assert (await http.post(CHAT, json=QUESTION)).status_code == 200
        before = most_memory(running.process.pid)
        for name, filled in FILLED.items():
            body = b'{"model": "%s", %s}' % (MODEL.encode(), filled)
            assert (await http.post(CHAT, content=body)).status_code == 200, name
            assert got[-1] == len(body)
            grown = most_memory(running.process.pid) - before
            assert grown <= 2.5 * len(body), f"{name}: {grown / len(body):.1f} times"
