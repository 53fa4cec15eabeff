"""Withholds answers in which the stack repeats a credential that the proxy attached."""

import html
import logging
import re
from collections.abc import AsyncIterator, Sequence
from urllib.parse import unquote

from multidict import CIMultiDict

from lightspeed_azure.provider_data import merge, parse
from lightspeed_azure.proxy.answer import Answer, read_whole
from lightspeed_azure.proxy.errors import Failure
from lightspeed_azure.secrets import RedactedDict, RedactedStr

_logger = logging.getLogger(__name__)

SHORTEST = 8
"""Characters: shorter values occur in texts by chance, so they are not looked for."""

PIECE = 16
"""Characters from the beginning or the end of a credential that count as the credential.

Errors shorten what they repeat: pydantic 2 shows the first 25 and the last 24 characters of a value.
"""

EVENT_LIMIT = 8 * 1024 * 1024
"""Bytes of one event of a stream that are held back to be checked."""

_HARMLESS = frozenset(
    [
        *("azure_api_base", "azure_api_type", "azure_api_version"),
        *("vertex_location", "vertex_project", "watsonx_project_id"),
    ]
)
"""Fields of provider data that hold no credential; every other field may hold one."""

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ERROR = re.compile(rb'"error"\s*:\s*(?!null|\s)|^event:\s*error', re.MULTILINE)
_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


class Attached:
    """The credentials that the proxy attached to one request.

    Args:
        authorization: the header for the stack's own authentication, or None.
        callers: the caller's own provider data, which the caller may see again.

    Attributes:
        callers: the same.
    """

    __slots__ = ("_secrets", "_values", "callers")

    def __init__(self, authorization: str | None, callers: Sequence[str] = ()) -> None:
        self.callers = callers
        self._values: list[str] = []
        self._secrets: dict[str, str] = RedactedDict()  # its repr shows nothing
        if authorization:
            self._add(authorization.removeprefix("Bearer "))

    def attach(self, provider_data: str) -> None:
        """Add the value of a provider-data header; a repeated request adds a second one."""
        self._values.append(provider_data)

    def __bool__(self) -> bool:
        return bool(self._values or self._secrets)

    def is_in_error(self, text: str) -> bool:
        """Return whether an error repeats a credential, whole, escaped or shortened."""
        plain = _plain(text)
        return any(
            any(piece in text for piece in _pieces(secret))
            or any(piece in plain for piece in _pieces(plain_secret))
            for secret, plain_secret in self._known().items()
        )

    def is_in_success(self, body: bytes | bytearray) -> bool:
        """Return whether a body with a status of success repeats a credential.

        An error inside it is checked like any other error. The rest may be the model's output, in
        which the beginning of a token proves nothing: many tokens begin alike.
        """
        if _ERROR.search(body):
            return self.is_in_error(body.decode(errors="replace"))
        return any(secret.encode() in body for secret in self._known())

    def _known(self) -> dict[str, str]:
        """Return each credential and its plain form."""
        if self._values:
            callers = merge(parse(value) for value in self.callers)
            for value in self._values:
                for field, secret in parse(value).items():
                    if field.lower() not in _HARMLESS and callers.get(field) != secret:
                        self._add(secret)
            self._values.clear()
        return self._secrets

    def _add(self, secret: object) -> None:
        if isinstance(secret, str) and len(secret) >= SHORTEST:
            self._secrets[RedactedStr(secret)] = RedactedStr(_plain(secret))


async def without_credentials(
    answer: Answer, attached: Attached, idle: float, request_id: str, *, may_have_failed: bool
) -> Answer:
    """Return an answer that repeats no credential.

    Errors and redirects are read whole before any of it is passed on, streams event by event.

    Args:
        answer: an answer of the stack.
        attached: the credentials that the request carried.
        idle: seconds that an error may take to arrive.
        request_id: for the log.
        may_have_failed: whether an answer with a status of success may hold an error.

    Raises:
        Failure: it repeats one or cannot be checked (502), or does not arrive whole.
    """
    is_success = answer.status < 300
    if not attached or (is_success and not answer.is_event_stream and not may_have_failed):
        return answer
    is_safe = await _is_safe(answer, attached, idle, request_id)
    if is_safe is False:
        raise _withheld(request_id)
    if is_success and answer.is_event_stream:
        if answer.encoding == "identity":
            events = _checked(answer.parts, attached, request_id)
            headers = CIMultiDict(answer.headers)
            headers.popall("Content-Length", None)  # an error may take an event's place
            return Answer(answer.status, headers, events, answer.close)
        is_success = False  # it was asked for without compression
    if is_safe is None and not is_success:
        raise _withheld(request_id, is_read=False)
    return answer


async def _is_safe(answer: Answer, attached: Attached, idle: float, request_id: str) -> bool | None:
    """Return whether headers and body repeat no credential; None for a body that cannot be read."""
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    if attached.is_in_error(headers):
        return False
    is_success = answer.status < 300
    if is_success and answer.is_event_stream:
        return None  # read while it is passed on
    text = await read_whole(answer.text(), idle, request_id)
    if text is None:
        return None
    return not (attached.is_in_success(text.encode()) if is_success else attached.is_in_error(text))


async def _checked(
    parts: AsyncIterator[bytes], attached: Attached, request_id: str
) -> AsyncIterator[bytes]:
    """Yield whole events, or nothing while one is not whole, until one repeats a credential.

    Raises:
        Failure: an event repeats a credential, or is too large to be checked.
    """
    held = bytearray()
    async for part in parts:
        if not held and part.endswith((b"\n\n", b"\r\n\r\n")):
            events = part  # as most often
        else:
            begin = max(len(held) - 3, 0)
            held += part
            end = max((match.end() for match in _END_OF_EVENT.finditer(held, begin)), default=0)
            events = bytes(held[:end])
            del held[:end]
        clean = _clean_beginning(events, attached)
        yield clean  # also where it is empty: the stack is alive
        if len(clean) < len(events):
            del part, events, held  # an error must hold no frame that shows them
            raise _withheld(request_id)
        if len(held) > EVENT_LIMIT:
            del part, events, held
            raise _withheld(request_id, is_read=False)
    if held and attached.is_in_success(held):
        del part, held
        raise _withheld(request_id)
    if held:
        yield bytes(held)


def _clean_beginning(events: bytes, attached: Attached) -> bytes:
    """Return the events before the first one that repeats a credential."""
    if not attached.is_in_success(events):
        return events
    end = 0
    for match in _END_OF_EVENT.finditer(events):
        if attached.is_in_success(events[end : match.end()]):
            return events[:end]
        end = match.end()
    return events


def _withheld(request_id: str, *, is_read: bool = True) -> Failure:
    """Return what the caller gets in place of an answer."""
    why = "repeats a credential" if is_read else "cannot be checked for credentials"
    _logger.warning("The stack's error %s and is withheld, request %s", why, request_id)
    return Failure(502, "error_withheld", f"The stack's error {why}, so it is not shown")


def _pieces(secret: str) -> tuple[str, ...]:
    """Return what of a credential must not be shown."""
    return (secret,) if len(secret) <= PIECE else (secret[:PIECE], secret[-PIECE:])


def _plain(text: str) -> str:
    """Return a text without the escapes of JSON, Python, URLs and HTML, however often applied."""
    text = _UNICODE_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    return html.unescape(unquote(text)).replace("\\", "")
