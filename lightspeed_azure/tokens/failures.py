"""Why no token came, as an error that tells the cure.

No text is copied from an exception or from an answer: both can hold what must not be shown.
"""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lightspeed_azure.config.credential_kinds import NETWORK, TROUBLESHOOTING
from lightspeed_azure.config.entra_id import AzureEntraIdConfiguration
from lightspeed_azure.errors import (
    CredentialRejectedError,
    TokenError,
    TokenUnavailableError,
    shown_path,
)
from lightspeed_azure.network_failure import network_failure, proxy_variable, shown
from lightspeed_azure.tokens.aadsts import MEANINGS, link
from lightspeed_azure.tokens.exchange import Answer, Exchange

_THROTTLED = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes"

_MOMENT = re.compile(r"(?:expiry time of assertion |End=|expired on )(\d[\d/:T. -]{7,30}\d)")


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    Attributes:
        config: the identity.
        scope: what the token was for.
        exchange: what went over the wire.
        error: what azure-identity raised.
    """

    config: AzureEntraIdConfiguration
    scope: str
    exchange: Exchange
    error: BaseException = field(repr=False)

    def is_refusal_of_secret(self) -> bool:
        """Whether Entra ID refused the credential itself, so that another one may be accepted."""
        meaning = MEANINGS.get(self._code())
        answer = self.exchange.answer
        if answer is None or answer.status not in (400, 401):
            return False
        return meaning.secret if meaning else answer.error == "invalid_client"

    def to_error(self, *, detail: str = "") -> TokenError:
        """Return the typed error.

        Args:
            detail: what else is known, such as when the certificate expired.
        """
        kind, answer = self.config.kind, self._telling_answer()
        # An endpoint on this machine answers with JSON; anything else is another server's answer.
        is_of_service = answer is not None and (answer.is_json or not kind.endpoint)
        if not is_of_service and (proxied := self._of_proxied_endpoint()):
            return proxied
        if answer and (answer.status in (408, 410, 429) or answer.status >= 500):
            return _passing(self._service(), answer)
        if self._code():
            return self._of_code(self._code(), answer, detail)
        if answer and answer.status < 400:
            return TokenUnavailableError(
                f"{self._service()} sent no token, but an answer of another kind",
                cure="Check whether a proxy answers in its place",
                link=NETWORK,
            )
        if answer and is_of_service:
            explained = kind.explain(self.config, self.error, answer.status)
            return explained or self._of_status(answer)
        return self._of_local()

    def _telling_answer(self) -> Answer | None:
        """Return the last answer; of a chain, only if the authority gave it, which ends the chain."""
        answer = self.exchange.answer
        is_chain = self.config.kind.is_chain
        if is_chain and answer and answer.origin.lower() != self.config.authority_host.lower():
            return None
        return answer

    def _code(self) -> str:
        """Return Entra ID's code, from the answer or, of a command-line tool, from its output."""
        answer = self._telling_answer()
        if answer:
            return answer.code
        found = re.search(r"AADSTS(\d{4,8})", str(self.error))
        return found.group(1) if found else ""

    def _service(self) -> str:
        return self.config.kind.service.format(config=self.config)

    def _of_code(self, code: str, answer: Answer | None, detail: str) -> TokenError:
        """Return the error for one of Entra ID's codes, known or not."""
        meaning = MEANINGS.get(code)
        words = {
            "client": self.config.client_id or "of this identity",
            "tenant": self.config.tenant_id or "of this identity",
            "scope": self.scope,
            "authority": self.config.authority_host,
            "source": self.config.kind.key,
        }
        what = f"Entra ID refuses application {words['client']}"
        cure = (
            f"Check client_id, tenant_id, scope and {words['source']}; the link explains the code"
        )
        permanent = not answer or answer.error not in ("temporarily_unavailable", "server_error")
        if meaning:
            what, cure = meaning.what.format(**words), meaning.cure.format(**words)
            permanent = meaning.permanent
        moment = _MOMENT.search(answer.description) if answer else None
        if moment:
            detail = f"it ended {moment.group(1).strip()}"
        skew = answer.skew if answer else None
        if code == "700024" and skew is not None and abs(skew) > 240:
            way = "ahead of" if skew > 0 else "behind"
            detail = f"this machine's clock is {abs(skew):.0f} s {way} Entra ID's"
        what += f" ({detail})" if detail else ""
        kind = CredentialRejectedError if permanent else TokenUnavailableError
        return kind(
            f"{what} [AADSTS{code}]",
            cure=cure,
            code=f"AADSTS{code}",
            link=link(code),
            retry_after=answer.retry_after if answer else None,
        )

    def _of_status(self, answer: Answer) -> TokenError:
        """Return the error for an HTTP refusal without a code."""
        name = f" ({answer.error})" if re.fullmatch(r"[a-z_]+", answer.error) else ""
        if answer.error in ("invalid_client", "unauthorized_client", "invalid_scope"):
            return CredentialRejectedError(
                f"{self._service()} refuses the credential{name}",
                cure=f"Check client_id, tenant_id, scope and {self.config.kind.key}",
                link=TROUBLESHOOTING,
            )
        cure = "Wait: it is tried again"
        if self.config.kind.endpoint is None:
            cure = "Check authority_host, and whether a proxy answers in its place"
        if answer.status == 407:
            cure = "Give the proxy's user name and password in HTTPS_PROXY"
        return TokenUnavailableError(
            f"{self._service()} answers with HTTP {answer.status}{name}",
            cure=cure,
            link=self.config.kind.link,
            retry_after=answer.retry_after,
        )

    def _of_proxied_endpoint(self) -> TokenError | None:
        """Return the error of an endpoint on this machine that is asked through a proxy, or None."""
        kind = self.config.kind
        endpoint = kind.endpoint() if kind.endpoint else ""
        variable = proxy_variable(endpoint) if endpoint else ""
        if not variable:
            return None
        return TokenUnavailableError(
            f"{self._service()} is asked through {variable}, and does not answer",
            cure=f"Add the endpoint to NO_PROXY: NO_PROXY={urlsplit(endpoint).hostname}",
            link=kind.link,
        )

    def _of_local(self) -> TokenError:
        """Return the error of an attempt in which the service did not answer."""
        ca_bundle = self.config.ca_bundle
        if ca_bundle and not os.path.isfile(ca_bundle):  # noqa: PTH113 - never raises
            return TokenUnavailableError(
                f"{shown_path(ca_bundle) or 'The file of ca_bundle'} is gone",
                cure="Bring it back, or correct ca_bundle",
                link=TROUBLESHOOTING,
            )
        explained = self.config.kind.explain(self.config, self.error, None)
        return (
            explained
            or unreachable(self.error, self.config)
            or TokenUnavailableError(
                f"The credential failed with {type(self.error).__name__}",
                cure="Look into the log of azure.identity",
                link=TROUBLESHOOTING,
            )
        )


def _passing(service: str, answer: Answer) -> TokenError:
    """Return the error for a service that has too much to do, or is down."""
    if answer.status == 429:
        what, cure = f"{service} has too many requests (HTTP 429)", "Wait: it is tried again"
    else:
        what, cure = f"{service} is not well (HTTP {answer.status})", "Wait: it is tried again"
    return TokenUnavailableError(
        what,
        cure=cure,
        code=f"AADSTS{answer.code}" if answer.code else "",
        link=link(answer.code) or _THROTTLED,
        retry_after=answer.retry_after,
    )


def unreachable(
    error: BaseException, config: AzureEntraIdConfiguration
) -> TokenUnavailableError | None:
    """Return the error for a failed connection to Entra ID, or None if that was not the reason.

    Args:
        error: what azure-core or requests raised.
        config: the identity.
    """
    failure = network_failure(error)
    if failure is None:
        return None
    return TokenUnavailableError(
        f"Entra ID at {shown(config.authority_host)} cannot be reached: {failure.words}",
        cure=failure.cure(url_key="authority_host", ca_key="ca_bundle"),
        link=NETWORK,
    )
