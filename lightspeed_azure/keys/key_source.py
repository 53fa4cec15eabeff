"""Where one key comes from: a file, the environment, the configuration, or a resolver."""

import logging
import os
import time
from collections.abc import Callable

from pydantic import SecretStr

from lightspeed_azure.config import ProviderCredential
from lightspeed_azure.config.files import key_file
from lightspeed_azure.config.provider_fields import LONGEST_KEY
from lightspeed_azure.config.values import shown_variable
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    KeyUnavailableError,
    LightspeedAzureError,
)
from lightspeed_azure.keys.api_key import aresolve_credential
from lightspeed_azure.keys.registry import registry
from lightspeed_azure.secrets import SecretFile

_logger = logging.getLogger("lightspeed_azure.keys")

_ESCALATION = ((300.0, logging.WARNING), (3_600.0, logging.ERROR))
"""Seconds that a fault has lasted, and the level at which it is logged again; then every hour."""


class KeySource:
    """Returns one key as it is now. Safe to use from any thread.

    Args:
        credential: what the operator wrote.
        monotonic: returns seconds.

    Attributes:
        credential: see above.
        reloads: how often the value changed; the first value counts.
        fault: what is wrong with the source now, or "".
        failures: how often it had no new value.
    """

    def __init__(
        self, credential: ProviderCredential, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.credential = credential
        self.reloads = 0
        self.fault = ""
        self.failures = 0
        self._latest: SecretStr | None = None
        self._monotonic = monotonic
        self._good_at: float | None = None
        self._faulty_since: float | None = None
        self._logged = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.credential.name!r})"

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return the key for one request; None if there never was one.

        Args:
            provider_id: whose request it is.
            field: which field it fills.

        Raises:
            TokenError: there is none, and asking again may help.
        """
        raise NotImplementedError

    def latest(self) -> SecretStr | None:
        """Return the key that `get` returned last; never waits."""
        return self._latest

    @property
    def age(self) -> float | None:
        """Seconds since the value was last known to be current; None if it never was."""
        return None if self._good_at is None else max(0.0, self._monotonic() - self._good_at)

    def invalidate(self, key: SecretStr, provider_id: str) -> None:
        """Note that a provider refused this key."""

    def accepted(self, key: SecretStr, provider_id: str) -> None:
        """Note that a provider accepted this key."""

    def close(self) -> None:
        """Stop background work."""

    def keep(self, key: SecretStr | None) -> SecretStr | None:
        """Remember the key that is returned now, and return it."""
        if key != self._latest:
            self.reloads += 1
        self._latest = key
        return key

    def note(self, fault: str, *, logged: bool = False) -> None:
        """Note the state of the source, and log a fault: at once, then again while it lasts.

        Args:
            fault: what is wrong, or "".
            logged: whether another part logs the beginning of the fault.
        """
        now = self._monotonic()
        self.fault = fault
        if not fault:
            self._good_at, self._faulty_since, self._logged = now, None, 0
            return
        self.failures += 1
        name = f"provider_credentials {self.credential.name}"
        if self._faulty_since is None:
            self._faulty_since = now
            if not logged:
                _logger.warning("%s: %s", name, fault)
            return
        lasted = now - self._faulty_since
        after, level = self._next_log()
        if lasted >= after:
            while lasted >= self._next_log()[0]:
                self._logged += 1
            minutes = lasted / 60
            _logger.log(level, "%s has had no good value for %.0f min: %s", name, minutes, fault)

    def _next_log(self) -> tuple[float, int]:
        if self._logged < len(_ESCALATION):
            return _ESCALATION[self._logged]
        after, level = _ESCALATION[-1]
        return after * (self._logged - len(_ESCALATION) + 2), level


class FileKey(KeySource):
    """A key in a file, read for each request; the last good value if the file is not valid."""

    def __init__(
        self, credential: ProviderCredential, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(credential, monotonic)
        file = key_file(credential)
        if file is None:
            raise TypeError("the source names no file")
        self._file: SecretFile = file

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Read the file."""
        del provider_id, field
        content = self._content()
        if content is None:
            return None
        self.note(self._file.fault, logged=True)
        return self.keep(SecretStr(content.decode()))

    def _content(self) -> bytes | None:
        """Return the content, or the last good one; None, with a note, without one."""
        try:
            return self._file.read_bytes()
        except InvalidConfigurationError as error:
            self.note(str(error).removeprefix(f"{self._file.key}: "))
            return None


class EnvironmentKey(KeySource):
    """A key in an environment variable, looked up for each request."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Look it up; the last good value if it is gone."""
        del provider_id, field
        name = self.credential.source.env or ""
        value = os.environ.get(name)
        fault = "is not set" if value is None else fault_of(value.strip())
        shown = shown_variable(name) or "of source.env"
        self.note(f"variable {shown} {fault}" if fault else "")
        if value is not None and not fault:
            self.keep(SecretStr(value.strip()))
        return self._latest


class ConfiguredKey(KeySource):
    """A key in the configuration."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return it."""
        del provider_id, field
        self.note("")
        return self.keep(self.credential.source.value)


class PluginKey(KeySource):
    """A key from a resolver, which has its own cache, limits and fallbacks."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Ask the resolver.

        Raises:
            CredentialResolutionError: it failed, and its `on_error` is `fail`.
            InvalidConfigurationError: there is no such resolver.
            KeyUnavailableError: its answer cannot be a key.
        """
        plugin = self.credential.source.plugin
        try:
            key = await aresolve_credential(provider_id, field, resolver=plugin)
        except LightspeedAzureError as error:
            # The name is not shown: without such a resolver, it may be a secret.
            self.note(f"the resolver failed with {type(error).__name__}")
            raise
        if key is None:
            passes = (each.last_pass for each in registry().status() if each.name == plugin)
            why = next(passes, "")
            why = f" ({why})" if why else ""
            self.note(f"resolver {plugin} gave no key{why}, and the environment has none")
            return None
        fault = fault_of(key.get_secret_value())
        self.note(f"resolver {plugin} {fault}" if fault else "")
        if fault:
            raise KeyUnavailableError(f"provider_credentials {self.credential.name}: {self.fault}")
        return self.keep(key)

    def invalidate(self, key: SecretStr, provider_id: str) -> None:
        """Ask the resolver again before its cached answer is used."""
        del provider_id
        registry().invalidate(key)


def fault_of(text: str) -> str:
    """Return why a header cannot carry this key, or ""."""
    if not text:
        return "is empty"
    if len(text) > LONGEST_KEY:
        return f"holds more than {LONGEST_KEY} characters"
    if not (text.isascii() and text.isprintable()):
        return "holds a line break, or characters that no key has"
    return ""
