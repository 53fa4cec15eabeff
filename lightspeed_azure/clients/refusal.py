"""Tell Azure's refusal of a token from every other error that comes through the stack.

The stack drops `WWW-Authenticate`, so only texts are left (llama-stack 0.7.3, service and library
mode): the openai client inside the stack writes `Error code: 401 - …`, and Azure's own sentence is
"Access token is missing, invalid, audience is incorrect (…), or have expired." A refusal of the
stack's own inbound authentication has neither.

A missing role is a 401 too, with the code `PermissionDenied` ("The principal … lacks the required
data action …"). The token is good then, and a new one would not help.
"""

import contextlib
import re
from typing import Any

_OPENAI_CLIENT_SAYS = "Error code: 401 - "
_SECRET_HEADERS = ("authorization", "api-key")
_STACK_SAYS = "An unexpected error occurred"
_AZURE_SAYS = re.compile(
    r"access token (?:is|has|was) .{0,200}?(?:missing|invalid|expired)", re.IGNORECASE
)
"""Bounded, as an error may repeat a long text of the caller's."""
_MISSING_ROLE = re.compile(
    r"""["']code["']: ?["']PermissionDenied["']|lacks the required data action"""
)


def is_azure_refusal(error: BaseException) -> bool:
    """Return whether an error of a stack client says that Azure rejected the token."""
    if is_missing_role(str(error)):
        return False
    status = getattr(error, "status_code", None)
    if status == 401 and type(error).__module__.partition(".")[0] == "openai":
        return True  # library mode hands the error of the client inside the stack through
    if getattr(error, "code", None) == 401 and type(error).__module__.startswith("google."):
        return True
    text = str(error)
    if status == 500 and _AZURE_SAYS.search(text):
        return True
    # The stack's client begins its own text with the same words.
    return status == 401 and _OPENAI_CLIENT_SAYS in text.removeprefix(_OPENAI_CLIENT_SAYS)


def is_missing_role(text: str) -> bool:
    """Return whether an error says that the identity lacks a role on the Azure resource."""
    return bool(_MISSING_ROLE.search(text))


def is_unexplained(error: BaseException) -> bool:
    """Return whether a stack's error may be any, a refusal too: so it tells those of Vertex AI."""
    return getattr(error, "status_code", None) == 500 and _STACK_SAYS in str(error)


def is_refused_event(event: Any) -> bool:
    """Return whether an event of a streamed response says that Azure rejected the token."""
    if getattr(event, "type", None) != "response.failed":
        return False
    error = getattr(getattr(event, "response", None), "error", None)
    return bool(_AZURE_SAYS.search(str(getattr(error, "message", "") or "")))


def forget_token(error: BaseException) -> None:
    """Take the token out of an error's request, which logs, debuggers and pickles would show.

    In library mode errors of the openai client inside the stack arrive, with the request to Azure.
    """
    seen: BaseException | None = error
    while seen is not None:
        for part in ("request", "response"):
            with contextlib.suppress(AttributeError, RuntimeError):  # a response may know none
                sent = getattr(seen, part)
                headers = getattr(sent, "request", sent).headers
                for name in _SECRET_HEADERS:
                    headers.pop(name, None)
        seen = seen.__cause__ or seen.__context__
