"""Providers other than Azure OpenAI with Entra ID; each answers every request that has a good key.

`keys` are the good keys; tests change them while the providers serve. A key is judged when its
request arrives.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from jwt import get_unverified_header

from lightspeed_azure.emulators import answers
from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.server import ServerThread, Site
from lightspeed_azure.emulators.service import Handling, Ledger, Request, Response
from lightspeed_azure.emulators.tokens import fingerprint

_STREAM = "text/event-stream; charset=utf-8"
_CREATED = 1_721_172_717


class KeyedProvider:
    """A service that checks a bearer key. Safe for concurrent use.

    Args:
        name: what to call it, in logs.

    Attributes:
        keys: the keys that are good.
        endpoint: "http://127.0.0.1:PORT".
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.endpoint = ""
        self.keys: Iterable[str] = ()
        self._ledger = Ledger()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def reset(self) -> None:
        """Reset: no good keys, counters at 0."""
        self.keys = ()
        self._ledger.clear()

    @property
    def accepted(self) -> Mapping[str, int]:
        """How many requests came with each good key, by the key's fingerprint."""
        return self._ledger.snapshot().by("accepted")

    @property
    def rejected(self) -> int:
        """How many requests came without a good key."""
        return self._ledger.snapshot().of("rejected")

    def accepted_with(self, key: str) -> int:
        """Return how many requests came with this key while it was good."""
        return self.accepted.get(fingerprint(key), 0)

    def receive(self, request: Request) -> Handling:
        """Judge the key now, and count the request."""
        if self.is_public(request):
            return Handling(None, lambda: self.answer(request))
        key = request.bearer()
        if not key or key not in self.keys:
            self._ledger.count("rejected")
            return Handling(None, self.unauthorized)
        self._ledger.count(accepted=fingerprint(key))
        return Handling(None, lambda: self.answer(request))

    def refusal(self, fault: Fault) -> Response:
        """Return the body for a fault."""
        return Response.of({"error": {"code": str(fault.code), "message": "out of order"}})

    def is_public(self, request: Request) -> bool:
        """Return whether a request needs no key."""
        del request
        return False

    def unauthorized(self) -> Response:
        """Return the 401 that OpenAI gives, and vLLM's is much like it."""
        error = {
            "message": "Incorrect API key provided.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
        return Response.of({"error": error}, status=401)

    def answer(self, request: Request) -> Response:
        """Return what the service says to a request with a good key."""
        raise NotImplementedError


class OpenAICompatible(KeyedProvider):
    """Chat completions, embeddings and models, as OpenAI, vLLM and many others serve them."""

    def answer(self, request: Request) -> Response:
        """Return what the API says."""
        asked = request.json()
        talk = answers.Conversation(
            answers.last_words(asked.get("messages")), str(asked.get("model")), _CREATED
        )
        if request.path.endswith("/chat/completions"):
            if asked.get("stream"):
                usage = bool((asked.get("stream_options") or {}).get("include_usage"))
                events = tuple(answers.chat_stream(talk, pieces=4, usage=usage))
                return Response(200, content_type=_STREAM, chunks=events)
            return Response.of(answers.chat(talk))
        if request.path.endswith("/embeddings"):
            return Response.of(answers.embeddings(asked, talk.model))
        if request.path.endswith("/models"):
            return Response.of({"object": "list", "data": []})
        return Response.of({"error": {"message": "Not Found"}}, status=404)


class WatsonX(OpenAICompatible):
    """watsonx.ai: it takes the tokens that IBM's IAM gives for an API key, and no key.

    https://cloud.ibm.com/apidocs/watsonx-ai
    """

    def is_public(self, request: Request) -> bool:
        """The list of models is open to everybody."""
        return request.path.endswith("/foundation_model_specs")

    def answer(self, request: Request) -> Response:
        """Return what the API says."""
        if self.is_public(request):
            return Response.of({"resources": [{"model_id": "ibm/granite", "functions": []}]})
        return super().answer(request)


class Iam(KeyedProvider):
    """IBM's IAM: gives a token for an API key.

    https://cloud.ibm.com/apidocs/iam-identity-token-api

    Args:
        service: takes the tokens; its good keys are those of API keys that are good now.
    """

    HOST = "iam.cloud.ibm.com"

    def __init__(self, service: KeyedProvider) -> None:
        super().__init__("IBM IAM")
        self._service = service

    def allow(self, *keys: str) -> None:
        """Let these API keys, and the tokens for them, be the only good ones."""
        self.keys = keys
        self._service.keys = tuple(self.token(key) for key in keys)

    def token(self, key: str) -> str:
        """Return the token that this API key gets."""
        return f"iam-{fingerprint(key)}"

    def receive(self, request: Request) -> Handling:
        """Judge the API key in the form."""
        key = request.form().get("apikey", "")
        if key not in self.keys:
            self._ledger.count("rejected")
            body = {
                "errorCode": "BXNIM0415E",
                "errorMessage": "Provided API key could not be found.",
            }
            return Handling(None, lambda: Response.of(body, status=400))
        self._ledger.count(accepted=fingerprint(key))
        good = {"access_token": self.token(key), "token_type": "Bearer", "expires_in": 3600}
        return Handling(None, lambda: Response.of(good))


class Vertex(KeyedProvider):
    """Vertex AI's Gemini.

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
    """

    def unauthorized(self) -> Response:
        """Return Google's 401."""
        message = "Request had invalid authentication credentials."
        error = {"code": 401, "message": message, "status": "UNAUTHENTICATED"}
        return Response.of({"error": error}, status=401)

    def answer(self, request: Request) -> Response:
        """Return what the model says."""
        if not request.path.endswith(("generateContent", "GenerateContent")):
            return Response.of({"publisherModels": []})
        contents = request.json().get("contents") or [{}]
        words = " ".join(str(part.get("text", "")) for part in contents[-1].get("parts", []))
        model = request.path.rpartition("/")[2].partition(":")[0]
        text = answers.Conversation(words, model, _CREATED).text
        said: dict[str, Any] = {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
            ],
            "usageMetadata": {
                "promptTokenCount": 1,
                "candidatesTokenCount": 1,
                "totalTokenCount": 2,
            },
            "modelVersion": model,
        }
        if request.path.endswith("GenerateContent"):  # streamGenerateContent
            event = f"data: {json.dumps(said)}\r\n\r\n".encode()
            return Response(200, content_type=_STREAM, chunks=(event,))
        return Response.of(said)


class GoogleTokens(KeyedProvider):
    """Google's token endpoint (RFC 7523 and RFC 6749, section 6).

    Its `keys` are the good `kid`s of service accounts, and refresh tokens.

    Args:
        services: take the tokens.
    """

    def __init__(self, *services: KeyedProvider) -> None:
        super().__init__("Google tokens")
        self._services = services
        self._numbers = itertools.count()
        self.token_lifetime = 3600.0
        self.issued: list[str] = []

    def reset(self) -> None:
        """Reset: no good keys, no tokens issued."""
        super().reset()
        self.token_lifetime = 3600.0
        self.issued = []

    def receive(self, request: Request) -> Handling:
        """Judge the proof of the client."""
        form = request.form()
        key = form.get("refresh_token", "")
        if form.get("assertion"):
            key = str(get_unverified_header(form["assertion"]).get("kid"))
        if key not in self.keys:
            self._ledger.count("rejected")
            body = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return Handling(None, lambda: Response.of(body, status=400))
        self._ledger.count(accepted=fingerprint(key))
        token = f"ya29.google-access-token-{next(self._numbers)}"
        self.issued.append(token)
        for service in self._services:
            service.keys = (*service.keys, token)
        good = {
            "access_token": token,
            "expires_in": int(self.token_lifetime),
            "token_type": "Bearer",
        }
        return Handling(None, lambda: Response.of(good))


class ProviderEmulators:
    """OpenAI, Azure OpenAI with a key, two vLLM, watsonx with its IAM, and Vertex AI with its tokens.

    Use it as a context manager. They listen on the loopback interface, on one thread of their own.
    """

    def __init__(self) -> None:
        self.openai = OpenAICompatible("OpenAI")
        self.azure = OpenAICompatible("Azure OpenAI with a key")
        self.rhoai = OpenAICompatible("vLLM on OpenShift AI")
        self.rhelai = OpenAICompatible("vLLM on RHEL AI")
        self.claude = OpenAICompatible("Claude of Vertex AI behind a gateway")
        self.watsonx = WatsonX("watsonx")
        self.vertex = Vertex("Vertex AI")
        self.iam = Iam(self.watsonx)
        self.google = GoogleTokens(self.vertex, self.claude)
        self._services: tuple[KeyedProvider, ...] = (
            *(self.openai, self.azure, self.rhoai, self.rhelai, self.claude),
            *(self.watsonx, self.vertex, self.google, self.iam),
        )
        self._servers: ServerThread | None = None
        self._directory: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        authority = CertificateAuthority()
        self._servers = ServerThread()
        tls = authority.server_context(Iam.HOST)
        sites = [Site(each, tls=tls if each is self.iam else None) for each in self._services]
        ports = self._servers.start(sites)
        self._directory = TemporaryDirectory(prefix="lightspeed-azure-")
        self.ca_bundle.write_bytes(authority.pem())
        for service, port in zip(self._services, ports, strict=True):
            scheme = "https" if service is self.iam else "http"
            service.endpoint = f"{scheme}://127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._servers is not None:
            self._servers.stop()
        if self._directory is not None:
            self._directory.cleanup()

    def reset(self) -> None:
        """Reset everything but the ports."""
        for service in self._services:
            service.reset()

    @property
    def ca_bundle(self) -> Path:
        """The PEM file of the authority that vouches for IBM's IAM here.

        Raises:
            RuntimeError: they do not run.
        """
        if self._directory is None:
            raise RuntimeError(
                "the emulators are not running: use `with ProviderEmulators() as …:`"
            )
        return Path(self._directory.name) / "ca.pem"
