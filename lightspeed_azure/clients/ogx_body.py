"""What may not be in the JSON body of an OGX request, which goes on to Azure.

The client of OGX puts every argument that it does not know into the body: `extra_headers=` is not a
header there (ogx_client/api/chat_completions_api.py 1.5).
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightspeed_azure.errors import ProviderDataError
from lightspeed_azure.provider_data import is_provider_data

HEADER_ARGUMENTS = frozenset({"extra_headers", "default_headers"})
"""What the clients of Llama Stack and OpenAI call headers."""


IN_THE_CLIENT = "as OGX takes every argument for a field; pass headers as _headers={…}"


def check_arguments(arguments: Mapping[str, object], cure: str = IN_THE_CLIENT) -> None:
    """Refuse headers among the arguments of a call.

    Raises:
        ProviderDataError: there are some; the text shows no value.
    """
    if not HEADER_ARGUMENTS.isdisjoint(arguments):
        raise ProviderDataError(
            f"extra_headers= would be sent to the model inside the request's JSON body, {cure}. "
            "Nothing was sent"
        )


class Checked:
    """Goes before a class of the client's resources: its methods refuse headers themselves.

    Those that take no free arguments would raise pydantic's error, which shows the value.
    """

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not inspect.ismethod(found):
            return found

        @functools.wraps(found)
        def method(*args: Any, **options: Any) -> Any:
            check_arguments(options)
            return found(*args, **options)

        return method


@functools.cache
def checked[Resource](kind: type[Resource]) -> type[Resource]:
    """Return a class of resources whose methods refuse headers."""
    if issubclass(kind, Checked):
        return kind
    return type(kind.__name__, (Checked, kind), {"__module__": kind.__module__})


def check_body(body: object, tokens: Sequence[str], cure: str = IN_THE_CLIENT) -> None:
    """Refuse headers, and tokens of ours, in a body.

    Args:
        body: what would be sent as JSON.
        tokens: what may not be in it.
        cure: why headers got there, and how to pass them.

    Raises:
        ProviderDataError: there is one; the text shows no value.
    """
    if not isinstance(body, dict | list):
        return
    if isinstance(body, dict):
        check_arguments(body, cure)
    waiting: list[object] = [body]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if any(is_provider_data(str(name)) for name in part):
                raise ProviderDataError(
                    "Provider data would be sent to the model inside the request's JSON body; "
                    "pass it as a header. Nothing was sent"
                )
            waiting += [*part, *part.values()]
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, str) and any(token in part for token in tokens):
            raise ProviderDataError(
                "The request's JSON body holds a token or key of ours, and would be sent to the model; "
                "take it out: every request carries one by itself. Nothing was sent"
            )
