"""What the emulated models say through the Responses API, whole and as events.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from lightspeed_azure.emulators.answers import Conversation


def response(talk: Conversation, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finished response of the Responses API.

    Args:
        talk: what is said.
        asked: the request: what it set is repeated.
    """
    item = _output_item(f"msg_{uuid.uuid4().hex}", talk.text, "completed")
    return _response(talk, asked, f"resp_{uuid.uuid4().hex}", "completed", [item])


def response_stream(
    talk: Conversation, asked: Mapping[str, Any], *, pieces: int
) -> Iterator[bytes]:
    """Yield a response as server-sent events, numbered as OpenAI numbers them."""
    identity, message = f"resp_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
    begun = _response(talk, asked, identity, "in_progress", [])
    item = _output_item(message, talk.text, "completed")
    at = {"item_id": message, "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole = {**empty, "text": talk.text}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        (
            "response.output_item.added",
            {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
        ),
        ("response.content_part.added", {**at, "part": empty}),
        *(
            ("response.output_text.delta", {**at, "delta": piece, "logprobs": []})
            for piece in talk.pieces(pieces)
        ),
        ("response.output_text.done", {**at, "text": talk.text, "logprobs": []}),
        ("response.content_part.done", {**at, "part": whole}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        (
            "response.completed",
            {"response": _response(talk, asked, identity, "completed", [item])},
        ),
    ]
    for number, (kind, body) in enumerate(events):
        data = json.dumps({"type": kind, "sequence_number": number, **body})
        yield f"event: {kind}\ndata: {data}\n\n".encode()


def _output_item(identity: str, text: str, status: str) -> dict[str, Any]:
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": identity,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [content],
    }


def _response(
    talk: Conversation,
    asked: Mapping[str, Any],
    identity: str,
    status: str,
    output: list[dict[str, Any]],
) -> dict[str, Any]:
    prompt, completed = talk.tokens
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completed,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completed,
    }
    return {
        "id": identity,
        "object": "response",
        "created_at": talk.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": talk.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": bool(asked.get("store", True)),
        "temperature": asked.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "top_p": asked.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
        "user": asked.get("user"),
        "metadata": asked.get("metadata") or {},
    }
