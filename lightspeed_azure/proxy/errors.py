"""Errors that the proxy itself answers, in OpenAI's shape."""

import json
import math
from collections.abc import Mapping

from lightspeed_azure.errors import (
    LightspeedAzureError,
    ProviderDataError,
    StackUnavailableError,
    TokenError,
)
from lightspeed_azure.proxy.inbound import InboundRejected

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    429: "rate_limit_error",
}


class Failure(Exception):  # noqa: N818 - it becomes an answer
    """Ends a request with an error of the proxy itself.

    Args:
        status: the HTTP status.
        code: the error code, for programs.
        message: what happened and what to do; never a secret, never what the caller sent.
        headers: further headers of the response.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Return the JSON that OpenAI's clients read (openai-python 2, APIStatusError)."""
        kind = _KINDS.get(
            self.status, "server_error" if self.status >= 500 else "invalid_request_error"
        )
        error = {"message": self.message, "type": kind, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()


def failure_of(error: Exception) -> Failure:
    """Return the failure that an exception becomes."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InboundRejected):
        code = {401: "unauthorized", 403: "forbidden"}.get(error.status, "unavailable")
        return Failure(error.status, code, error.message, error.headers)
    if isinstance(error, ProviderDataError):
        return Failure(400, "invalid_provider_data", str(error))
    if isinstance(error, TokenError | StackUnavailableError):
        after = 5.0 if error.retry_after is None else error.retry_after
        code = "no_token" if isinstance(error, TokenError) else "stack_unavailable"
        return Failure(503, code, str(error), {"Retry-After": str(max(1, math.ceil(after)))})
    if isinstance(error, LightspeedAzureError):
        return Failure(503, "misconfigured", str(error))
    return Failure(500, "internal_error", "The proxy failed; its log says more")
