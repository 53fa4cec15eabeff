"""The emulated providers other than Azure's own, all together."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from lightspeed_azure.emulators.certificates import CertificateAuthority
from lightspeed_azure.emulators.google import GoogleTokens, Vertex
from lightspeed_azure.emulators.providers import Iam, KeyedProvider, OpenAICompatible, WatsonX
from lightspeed_azure.emulators.server import ServerThread, Site


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
        """Be as if newly started, on the same ports."""
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
