"""Tell Azure's refusal of a token from every other error that comes through the stack.

The stack drops `WWW-Authenticate`, so only texts are left: the openai client inside the stack
writes `Error code: 401 - …`, and Azure's own sentence begins "Access token is missing, invalid".
A refusal of the stack's own inbound authentication has neither.
"""

from typing import Any

_OPENAI_CLIENT_SAYS = "Error code: 401 - "
_AZURE_SAYS = "Access token is missing, invalid"


def is_azure_refusal(error: BaseException) -> bool:
    """Return whether an error of a stack client says that Azure rejected the token."""
    status = getattr(error, "status_code", None)
    if status not in {401, 500}:
        return False
    if status == 401 and type(error).__module__.partition(".")[0] == "openai":
        return True  # library mode hands the error of the client inside the stack through
    text = _detail(getattr(error, "body", None))
    return _AZURE_SAYS in text or (status == 401 and _OPENAI_CLIENT_SAYS in text)


def _detail(body: Any) -> str:
    """Return the texts inside an error body, without the client's own prefix."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict):
        return " ".join(_detail(value) for value in body.values())
    return ""
