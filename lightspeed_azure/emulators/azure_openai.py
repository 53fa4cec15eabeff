"""Azure OpenAI: the v1 API, for requests with a good Entra ID token.

https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle

The token is judged when the request arrives: one that expires during a stream does not end it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.emulators import answers
from lightspeed_azure.emulators.entra import EntraEmulator
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.service import Emulator, Handling, Request, Response
from lightspeed_azure.emulators.tokens import TokenRefusedError, fingerprint

AUDIENCE = "https://cognitiveservices.azure.com"
DEPLOYMENTS = frozenset({"gpt-4o-mini", "text-embedding-3-small"})
_PREFIX = "/openai/v1"
_STREAM = "text/event-stream; charset=utf-8"
_CREATED = 1_721_172_717  # when gpt-4o-mini was made; any number will do
_NOT_FOUND = {"error": {"code": "404", "message": "Resource not found"}}


@dataclass(frozen=True, slots=True)
class AzureRequests:
    """What Azure OpenAI was asked.

    Args:
        total: all requests; accepted + rejected.
        accepted: requests whose credential was good, whatever became of them afterwards.
        rejected: requests answered with 401.
        faulted: accepted requests that a fault changed.
        by_reason: rejected requests: missing, bad signature, wrong audience, wrong issuer,
            expired, revoked.
        by_token: requests by the fingerprint of their bearer token, good or not.
        accepted_by_token: the same, accepted ones only.
        by_path: requests by path below ``/openai/v1``, such as "/chat/completions".
        by_model: accepted requests by the deployment they name.
    """

    total: int
    accepted: int
    rejected: int
    faulted: int
    by_reason: Mapping[str, int]
    by_token: Mapping[str, int]
    accepted_by_token: Mapping[str, int]
    by_path: Mapping[str, int]
    by_model: Mapping[str, int]


class AzureOpenAIEmulator(Emulator):
    """Stands in for ``https://{resource}.openai.azure.com``.

    Safe for concurrent use; everything may be changed while it serves.

    Args:
        entra: issues and judges the tokens.
        clock: seconds since the epoch.

    Attributes:
        endpoint: "http://127.0.0.1:PORT".
        audiences: what the tokens must be for.
        deployments: the names that exist; any other is DeploymentNotFound.
        has_role: whether the identities have a role on the resource. Without it a good token gets 401
            with the code PermissionDenied.
        api_keys: keys accepted in the header ``api-key`` instead of a token; none by default.
        chunks: into how many pieces a stream cuts an answer.
        chunk_interval: seconds between two events of a stream.
    """

    name = "Azure OpenAI"

    def __init__(self, *, entra: EntraEmulator, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._entra = entra
        self.endpoint = ""
        self.reset()

    def __repr__(self) -> str:
        return f"AzureOpenAIEmulator(endpoint={self.endpoint!r})"

    def reset(self) -> None:
        """Reset: no faults, counters at 0, every attribute at its default."""
        self._reset()
        self.audiences: Iterable[str] = (AUDIENCE, f"{AUDIENCE}/")
        self.deployments: Iterable[str] = DEPLOYMENTS
        self.has_role = True
        self.api_keys: Iterable[SecretStr] = ()
        self.chunks = 6
        self.chunk_interval = 0.0

    @property
    def base_url(self) -> str:
        """What belongs into a provider's ``base_url``."""
        return self.endpoint + _PREFIX

    @property
    def requests(self) -> AzureRequests:
        """The counters as they stand."""
        tally = self._ledger.snapshot()
        return AzureRequests(
            total=tally.of("total"),
            accepted=tally.of("accepted"),
            rejected=tally.of("rejected"),
            faulted=tally.of("faulted"),
            by_reason=tally.by("by_reason"),
            by_token=tally.by("by_token"),
            accepted_by_token=tally.by("accepted_by_token"),
            by_path=tally.by("by_path"),
            by_model=tally.by("by_model"),
        )

    def fault(self, fault: Fault, *, times: int | None = None, on: str = "all") -> None:
        """Apply `fault` to requests whose credential is good.

        Args:
            fault: what happens.
            times: how many requests; None: all, until `clear_faults`.
            on: "chat/completions", "completions", "responses", "embeddings", "models" or "all".
        """
        paths = frozenset(_ENDPOINTS)
        if on != "all" and on not in paths:
            raise ValueError(f"on must be one of {sorted(paths)} or 'all'; it is {on!r}")
        self._faults.add(fault, times=times, on=paths if on == "all" else frozenset({on}))

    def revoke(self, token_or_fingerprint: str) -> None:
        """Answer 401 to this token from now on, though it has not expired."""
        self._entra.tokens.revoke(token_or_fingerprint)

    def revoke_all_issued_before_now(self) -> None:
        """Answer 401 to every token issued so far."""
        self._entra.tokens.revoke_all()

    def receive(self, request: Request) -> Handling:
        """Judge the credential now, count the request, and return how to answer it."""
        path = request.path.removeprefix(_PREFIX) if request.path.startswith(_PREFIX) else ""
        endpoint = path.strip("/")
        endpoint = "models" if endpoint.startswith("models/") else endpoint
        token = request.bearer()
        labels = {"by_path": path or request.path}
        if token:
            labels["by_token"] = fingerprint(token)
        try:
            self._admit(request, token)
        except TokenRefusedError as error:
            self._ledger.count("total", "rejected", by_reason=error.reason, **labels)
            return Handling(None, lambda: self._unauthorized(token))
        if token and not self.has_role:
            self._ledger.count("total", "rejected", by_reason="permission_denied", **labels)
            return Handling(None, lambda: self._permission_denied(endpoint))
        if token:
            labels["accepted_by_token"] = fingerprint(token)
        asked = request.json()
        if "model" in asked:
            labels["by_model"] = str(asked["model"])
        fault = self._faults.take(endpoint)
        names = ("total", "accepted") if fault is None else ("total", "accepted", "faulted")
        self._ledger.count(*names, **labels)
        return Handling(fault, lambda: self._answer(request.method, path, endpoint, asked))

    def refusal(self, fault: Fault) -> Response:
        """Return what Azure says when it is overloaded or out of order."""
        messages = {429: "Rate limit is exceeded. Please retry later."}
        message = messages.get(fault.code, "The service is temporarily unable to process it.")
        return Response.of({"error": {"code": str(fault.code), "message": message}})

    def _admit(self, request: Request, token: str) -> None:
        key = request.headers.get("api-key", "")
        if key and any(key == each.get_secret_value() for each in self.api_keys):
            return
        if not token:
            raise TokenRefusedError("missing")
        self._entra.judge(token, audiences=frozenset(self.audiences))

    def _unauthorized(self, token: str) -> Response:
        """Return Azure's 401; its words do not tell one reason from another."""
        audience = next(iter(self.audiences), AUDIENCE)
        authority = f"{self._entra.authority}/{self._entra.tenant_id}"
        challenge = f'Bearer authorization_uri="{authority}/oauth2/authorize"'
        if token:
            challenge += ', error="invalid_token", error_description="The access token is invalid"'
        message = (
            "Access token is missing, invalid, audience is incorrect"
            f" ({audience}), or have expired."
        )
        body = {"error": {"code": "Unauthorized", "message": message}}
        return Response.of(body, status=401, headers={"WWW-Authenticate": challenge})

    def _permission_denied(self, endpoint: str) -> Response:
        """Return the 401 for a good token of an identity without a role."""
        message = (
            f"The principal `{self._entra.application.object_id}` lacks the required data action"
            f" `Microsoft.CognitiveServices/accounts/OpenAI/deployments/{endpoint}/action` to"
            f" perform `POST /openai/deployments/{{deployment-id}}/{endpoint}` operation."
        )
        return Response.of({"error": {"code": "PermissionDenied", "message": message}}, status=401)

    def _answer(self, method: str, path: str, endpoint: str, asked: Mapping[str, Any]) -> Response:
        if endpoint == "models" and method == "GET":
            return self._models(path.removeprefix("/models").strip("/"))
        speak = _ENDPOINTS.get(endpoint)
        if speak is None or method != "POST":
            return Response.of(_NOT_FOUND, status=404)
        if str(asked.get("model")) not in self.deployments:
            return Response.of(
                {
                    "error": {
                        "code": "DeploymentNotFound",
                        "message": (
                            "The API deployment for this resource does not exist. If you created"
                            " the deployment within the last 5 minutes, please wait a moment and"
                            " try again."
                        ),
                    }
                },
                status=404,
            )
        return speak(self, asked)

    def _models(self, name: str) -> Response:
        if not name:
            data = [answers.model(each, _CREATED) for each in sorted(self.deployments)]
            return Response.of({"object": "list", "data": data})
        if name not in self.deployments:
            return Response.of(_NOT_FOUND, status=404)
        return Response.of(answers.model(name, _CREATED))

    def _talk(self, asked: Mapping[str, Any], messages: object) -> answers.Conversation:
        return answers.Conversation(
            answers.last_words(messages), str(asked["model"]), int(self._clock())
        )

    def _chat(self, asked: Mapping[str, Any]) -> Response:
        talk = self._talk(asked, asked.get("messages"))
        if not asked.get("stream"):
            return Response.of(answers.chat(talk))
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        return self._stream(answers.chat_stream(talk, pieces=self.chunks, usage=usage))

    def _responses(self, asked: Mapping[str, Any]) -> Response:
        talk = self._talk(asked, asked.get("input"))
        if not asked.get("stream"):
            return Response.of(answers.response(talk, asked))
        return self._stream(answers.response_stream(talk, asked, pieces=self.chunks))

    def _completions(self, asked: Mapping[str, Any]) -> Response:
        return Response.of(answers.completion(self._talk(asked, asked.get("prompt"))))

    def _embeddings(self, asked: Mapping[str, Any]) -> Response:
        return Response.of(answers.embeddings(asked, str(asked["model"])))

    def _stream(self, events: Iterable[bytes]) -> Response:
        return Response(
            200, content_type=_STREAM, chunks=tuple(events), interval=self.chunk_interval
        )


_ENDPOINTS: Mapping[str, Callable[[AzureOpenAIEmulator, Mapping[str, Any]], Response] | None] = {
    "chat/completions": AzureOpenAIEmulator._chat,  # noqa: SLF001 - its own methods
    "completions": AzureOpenAIEmulator._completions,  # noqa: SLF001
    "responses": AzureOpenAIEmulator._responses,  # noqa: SLF001
    "embeddings": AzureOpenAIEmulator._embeddings,  # noqa: SLF001
    "models": None,
}
