"""Providers other than Azure, each of which answers whoever carries a good key.

What they have in common: `keys` are the good ones, and may be changed while they serve. A key is
judged when the request arrives.
"""

from collections.abc import Iterable, Mapping

from lightspeed_azure.emulators import answers
from lightspeed_azure.emulators.exchange import Answer, Handling, Request
from lightspeed_azure.emulators.faults import Fault
from lightspeed_azure.emulators.ledgers import Ledger
from lightspeed_azure.emulators.tokens import fingerprint

STREAM = "text/event-stream; charset=utf-8"
CREATED = 1_721_172_717


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
        """Know no key, and have counted nothing."""
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

    def refusal(self, fault: Fault) -> Answer:
        """Return the body for a fault."""
        return Answer.of({"error": {"code": str(fault.code), "message": "out of order"}})

    def is_public(self, request: Request) -> bool:
        """Return whether a request needs no key."""
        del request
        return False

    def unauthorized(self) -> Answer:
        """Return the 401 that OpenAI gives, and vLLM's is much like it."""
        error = {
            "message": "Incorrect API key provided.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
        return Answer.of({"error": error}, status=401)

    def answer(self, request: Request) -> Answer:
        """Return what the service says to a request with a good key."""
        raise NotImplementedError


class OpenAICompatible(KeyedProvider):
    """Chat completions, embeddings and models, as OpenAI, vLLM and many others serve them."""

    def answer(self, request: Request) -> Answer:
        """Return what the API says."""
        asked = request.json()
        talk = answers.Conversation(
            answers.last_words(asked.get("messages")), str(asked.get("model")), CREATED
        )
        if request.path.endswith("/chat/completions"):
            if asked.get("stream"):
                usage = bool((asked.get("stream_options") or {}).get("include_usage"))
                events = tuple(answers.chat_stream(talk, pieces=4, usage=usage))
                return Answer(200, content_type=STREAM, chunks=events)
            return Answer.of(answers.chat(talk))
        if request.path.endswith("/embeddings"):
            return Answer.of(answers.embeddings(asked, talk.model))
        if request.path.endswith("/models"):
            return Answer.of({"object": "list", "data": []})
        return Answer.of({"error": {"message": "Not Found"}}, status=404)


class WatsonX(OpenAICompatible):
    """watsonx.ai: it takes the tokens that IBM's IAM gives for an API key, and no key.

    https://cloud.ibm.com/apidocs/watsonx-ai
    """

    def is_public(self, request: Request) -> bool:
        """The list of models is open to everybody."""
        return request.path.endswith("/foundation_model_specs")

    def answer(self, request: Request) -> Answer:
        """Return what the API says."""
        if self.is_public(request):
            return Answer.of({"resources": [{"model_id": "ibm/granite", "functions": []}]})
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
            return Handling(None, lambda: Answer.of(body, status=400))
        self._ledger.count(accepted=fingerprint(key))
        good = {"access_token": self.token(key), "token_type": "Bearer", "expires_in": 3600}
        return Handling(None, lambda: Answer.of(good))
