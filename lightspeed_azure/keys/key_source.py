"""Where one key comes from: a file, the environment, the configuration, or a resolver."""

import importlib
import logging
import os
import time
from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from lightspeed_azure.config import ProviderCredential
from lightspeed_azure.config.files_named import LONGEST_KEY, key_file
from lightspeed_azure.config.values import shown_variable
from lightspeed_azure.errors import (
    InvalidConfigurationError,
    KeyUnavailableError,
    LightspeedAzureError,
)
from lightspeed_azure.secret_file import SecretFile

LOUDER = ((300.0, logging.WARNING), (3_600.0, logging.ERROR))
"""Seconds that a fault has lasted → how loud it is told then; from the last on every hour."""


class Aging:
    """What is known of one source: whether it is well, and since when not.

    Args:
        name: what to call it.
        logger: where the lines go.
        monotonic: gives seconds.

    Attributes:
        fault: what is wrong with it now, or "".
        failures: how often it had no new value when asked.
    """

    def __init__(
        self, name: str, logger: logging.Logger, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.fault = ""
        self.failures = 0
        self._name = name
        self._logger = logger
        self._monotonic = monotonic
        self._good_at: float | None = None
        self._since: float | None = None
        self._told = 0

    @property
    def age(self) -> float | None:
        """Seconds since its value was last known to be current; None when it never was."""
        return None if self._good_at is None else max(0.0, self._monotonic() - self._good_at)

    def note(self, fault: str, *, told: bool = False) -> None:
        """Take down how it is now.

        Args:
            fault: what is wrong, or "".
            told: whether somebody else has told of it when it began.
        """
        now = self._monotonic()
        self.fault = fault
        if not fault:
            self._good_at, self._since, self._told = now, None, 0
            return
        self.failures += 1
        if self._since is None:
            self._since = now
            if not told:
                self._logger.warning("%s: %s", self._name, fault)
            return
        lasted = now - self._since
        due = self._due()
        if lasted >= due[0]:
            while lasted >= self._due()[0]:
                self._told += 1
            self._logger.log(
                due[1],
                "%s has had no good value for %.0f min: %s",
                self._name,
                lasted / 60,
                fault,
            )

    def _due(self) -> tuple[float, int]:
        if self._told < len(LOUDER):
            return LOUDER[self._told]
        after, level = LOUDER[-1]
        return after * (self._told - len(LOUDER) + 2), level


_logger = logging.getLogger("lightspeed_azure.keys")


class KeySource:
    """Gives one key as it is now. Safe to use from any thread.

    Args:
        credential: what the operator wrote.
        monotonic: gives seconds.

    Attributes:
        credential: see above.
        aging: whether the source is well.
        reloads: how often it gave another value than before; the first counts.
    """

    def __init__(
        self, credential: ProviderCredential, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.credential = credential
        self.aging = Aging(f"provider_credentials {credential.name}", _logger, monotonic)
        self._latest: SecretStr | None = None
        self.reloads = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.credential.name!r})"

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return the key for one request; None when there never was one.

        Args:
            provider_id: whose request it is.
            field: what it fills.

        Raises:
            TokenError: there is none, and asking again may help.
        """
        raise NotImplementedError

    def latest(self) -> SecretStr | None:
        """Return the key that `get` gave last; never waits."""
        return self._latest

    def keep(self, key: SecretStr | None) -> SecretStr | None:
        """Remember the key that is given now, and return it."""
        if key != self._latest:
            self.reloads += 1
        self._latest = key
        return key

    def refused(self, key: SecretStr, provider_id: str) -> None:
        """Take note that a provider did not accept this key."""

    def accepted(self, key: SecretStr, provider_id: str) -> None:
        """Take note that a provider accepted this key."""

    def close(self) -> None:
        """Stop what runs behind."""


class FileKey(KeySource):
    """A key in a file, read once for each request; the last good one when it is not well."""

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
        self.aging.note(self._file.fault, told=True)
        return self.keep(SecretStr(content.decode()))

    def _content(self) -> bytes | None:
        """Return what the file holds, or the last good of it; None, and noted, without one."""
        try:
            return self._file.read_bytes()
        except InvalidConfigurationError as error:
            self.aging.note(str(error).removeprefix(f"{self._file.key}: "))
            return None


class EnvironmentKey(KeySource):
    """A key in an environment variable, looked up for each request."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Look it up; the last good value where it is gone."""
        del provider_id, field
        name = self.credential.source.env or ""
        value = os.environ.get(name)
        fault = "is not set" if value is None else fault_of(value.strip())
        shown = shown_variable(name) or "of source.env"
        self.aging.note(f"variable {shown} {fault}" if fault else "")
        if value is not None and not fault:
            self.keep(SecretStr(value.strip()))
        return self._latest


class ConfiguredKey(KeySource):
    """A key that stands in the configuration."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Return it."""
        del provider_id, field
        self.aging.note("")
        return self.keep(self.credential.source.value)


class PluginKey(KeySource):
    """A key that a resolver answers with."""

    async def get(self, provider_id: str, field: str) -> SecretStr | None:
        """Ask the resolver; caching, limits and fall-backs are those of `resolution`.

        Raises:
            LightspeedAzureError: what the resolution raises.
            KeyUnavailableError: it failed otherwise, or answered with what is no key.
        """
        plugin = self.credential.source.plugin
        failure: str
        try:
            key = await _resolve()(provider_id, field, resolver=plugin)
        except LightspeedAzureError as error:
            # The name is not shown here: it may be that of no resolver, and then it may be a secret.
            self.aging.note(f"the resolver failed with {type(error).__name__}")
            raise
        except Exception as error:  # noqa: BLE001 - somebody else's code
            failure = f"failed with {type(error).__name__}"
        else:
            if key is None:
                why = _why_passed(plugin)
                self.aging.note(f"resolver {plugin} gave no key{why}, and the environment has none")
                return None
            failure = _fault_of_answer(key)
            if not failure:
                self.aging.note("")
                return self.keep(key)
        self.aging.note(f"resolver {plugin} {failure}")
        raise KeyUnavailableError(
            f"provider_credentials {self.credential.name}: {self.aging.fault}"
        )

    def refused(self, key: SecretStr, provider_id: str) -> None:
        """Let the resolver be asked again, instead of giving what it said before."""
        del provider_id
        importlib.import_module("lightspeed_azure.keys").refused(key)


def _why_passed(plugin: str | None) -> str:
    """Return where a resolver looked when it passed last, if it says so."""
    found = importlib.import_module("lightspeed_azure.keys").status()
    why = next((each.last_pass for each in found if each.name == plugin), "")
    return f" ({why})" if why else ""


def _fault_of_answer(key: object) -> str:
    text: object = key.get_secret_value() if isinstance(key, SecretStr) else None
    if not isinstance(text, str):
        return "answered with something other than a SecretStr of text"
    return fault_of(text)


def fault_of(text: str) -> str:
    """Return what is wrong with a key as a header would carry it, or ""."""
    if not text:
        return "is empty"
    if len(text) > LONGEST_KEY:
        return "holds more than 16 KiB"
    if not (text.isascii() and text.isprintable()):
        return "holds a line break, or characters that no key has"
    return ""


def _resolve() -> Callable[..., Awaitable[SecretStr | None]]:
    """Return the way to the resolvers, which only whoever has one imports."""
    resolution = importlib.import_module("lightspeed_azure.keys")
    resolve: Callable[..., Awaitable[SecretStr | None]] = resolution.aresolve_credential
    return resolve
