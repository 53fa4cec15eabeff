"""Google's token endpoint, and Vertex AI, which takes its tokens."""

import itertools
import json
from typing import Any

from lightspeed_azure.emulators import answers
from lightspeed_azure.emulators.exchange import Answer, Handling, Request
from lightspeed_azure.emulators.providers import CREATED, STREAM, KeyedProvider
from lightspeed_azure.emulators.tokens import fingerprint


class Vertex(KeyedProvider):
    """Vertex AI's Gemini.

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference
    """

    def unauthorized(self) -> Answer:
        """Return Google's 401."""
        message = "Request had invalid authentication credentials."
        error = {"code": 401, "message": message, "status": "UNAUTHENTICATED"}
        return Answer.of({"error": error}, status=401)

    def answer(self, request: Request) -> Answer:
        """Return what the model says."""
        if not request.path.endswith(("generateContent", "GenerateContent")):
            return Answer.of({"publisherModels": []})
        contents = request.json().get("contents") or [{}]
        words = " ".join(str(part.get("text", "")) for part in contents[-1].get("parts", []))
        model = request.path.rpartition("/")[2].partition(":")[0]
        text = answers.Conversation(words, model, CREATED).text
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
            return Answer(200, content_type=STREAM, chunks=(event,))
        return Answer.of(said)


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
        """Know nobody, and have issued nothing."""
        super().reset()
        self.token_lifetime = 3600.0
        self.issued = []

    def receive(self, request: Request) -> Handling:
        """Judge who asks."""
        from jwt import get_unverified_header  # noqa: PLC0415 - as the other emulators

        form = request.form()
        key = form.get("refresh_token", "")
        if form.get("assertion"):
            key = str(get_unverified_header(form["assertion"]).get("kid"))
        if key not in self.keys:
            self._ledger.count("rejected")
            body = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return Handling(None, lambda: Answer.of(body, status=400))
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
        return Handling(None, lambda: Answer.of(good))
