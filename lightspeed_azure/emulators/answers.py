"""What the emulated models say, in the shapes of OpenAI's API: chat, completions, responses, embeddings.

https://platform.openai.com/docs/api-reference, https://learn.microsoft.com/azure/ai-foundry/openai/latest
"""

import base64
import hashlib
import json
import math
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DIMENSIONS = 1536  # of text-embedding-3-small


@dataclass(frozen=True, slots=True)
class Conversation:
    """One question to one model, at one time.

    Args:
        question: the user's last words.
        model: the deployment.
        created: seconds since the epoch.
    """

    question: str
    model: str
    created: int

    @property
    def text(self) -> str:
        """The answer; it repeats the question, so that a reader sees that it arrived."""
        return f"You asked: {self.question} - and {self.model} heard you."

    def pieces(self, number: int) -> list[str]:
        """Return the answer in at most `number` pieces, cut between words."""
        words = self.text.split(" ")
        size = math.ceil(len(words) / max(number, 1))
        cut = [" ".join(words[at : at + size]) for at in range(0, len(words), size)]
        return [*(f"{each} " for each in cut[:-1]), cut[-1]]

    @property
    def tokens(self) -> tuple[int, int]:
        """How many tokens the question and the answer count: one a word."""
        return len(self.question.split()), len(self.text.split())

    def usage(self) -> dict[str, Any]:
        """Return the usage as chat and plain completions report it."""
        prompt, completion = self.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


def last_words(messages: object) -> str:
    """Return the text of the last user message: of a chat, of a response's input, or a prompt."""
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return ""
    if messages and isinstance(messages[-1], str):
        return str(messages[-1])
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _text(message.get("content"))
    return ""


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return " ".join(
        str(part["text"]) for part in content if isinstance(part, dict) and "text" in part
    )


def chat(talk: Conversation) -> dict[str, Any]:
    """Return a chat completion."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": talk.text,
        "refusal": None,
        "annotations": [],
    }
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": talk.created,
        "model": talk.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": talk.usage(),
        "system_fingerprint": "fp_emulator",
    }


def chat_stream(talk: Conversation, *, pieces: int, usage: bool) -> Iterator[bytes]:
    """Yield a chat completion as server-sent events.

    Args:
        talk: what is said.
        pieces: into how many deltas.
        usage: whether ``stream_options.include_usage`` was asked for.
    """
    identity = f"chatcmpl-{uuid.uuid4().hex}"

    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = {
            "id": identity,
            "object": "chat.completion.chunk",
            "created": talk.created,
            "model": talk.model,
            "system_fingerprint": "fp_emulator",
            "choices": choices,
            **({"usage": None} if usage else {}),
        }
        return b"data: " + json.dumps({**body, **more}).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    yield chunk([choice({"role": "assistant", "content": ""})])
    for piece in talk.pieces(pieces):
        yield chunk([choice({"content": piece})])
    yield chunk([choice({}, "stop")])
    if usage:
        yield chunk([], usage=talk.usage())
    yield b"data: [DONE]\n\n"


def completion(talk: Conversation) -> dict[str, Any]:
    """Return a plain completion."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": talk.created,
        "model": talk.model,
        "choices": [{"index": 0, "text": talk.text, "logprobs": None, "finish_reason": "stop"}],
        "usage": talk.usage(),
    }


def embeddings(asked: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return one vector an input: equal texts have equal vectors, of length 1.

    The openai SDK asks for base64 (little-endian 32-bit floats) unless told otherwise.
    """
    given = asked.get("input", "")
    single = isinstance(given, str) or (
        isinstance(given, list) and bool(given) and isinstance(given[0], int)
    )
    inputs: Iterable[object] = [given] if single else given
    size = int(asked.get("dimensions") or _DIMENSIONS)
    encoded = asked.get("encoding_format") == "base64"
    vectors = [_vector(each, size) for each in inputs]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": (
                base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if encoded else vector
            ),
        }
        for index, vector in enumerate(vectors)
    ]
    words = sum(len(str(each).split()) for each in inputs)
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _vector(text: object, size: int) -> list[float]:
    seed = hashlib.shake_256(json.dumps(text).encode()).digest(2 * size)
    raw = [number - 32767.5 for number in struct.unpack(f"<{size}H", seed)]
    length = math.sqrt(sum(number * number for number in raw))
    return [number / length for number in raw]


def model(name: str, created: int) -> dict[str, Any]:
    """Return a model as `/models` lists it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "azure-openai"}


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
