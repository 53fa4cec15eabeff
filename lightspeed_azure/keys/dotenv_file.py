"""The `.env` file of the working directory, read again each time; the only file with python-dotenv.

A library parses it, so that quotes, `export`, comments and escapes mean what they mean to other
programs. The process's environment does not change, and `${…}` is not replaced.
"""

import io
import os
import stat
from pathlib import Path

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock, importing
from lightspeed_azure.errors import InvalidConfigurationError

_LARGEST = 1 << 20
"""Bytes; a real file is far smaller."""


class DotenvFile:
    """A `.env` file; parsed only when its content has changed. Safe for any number of threads.

    Args:
        path: the file; a relative path is resolved at each read.
    """

    def __init__(self, path: str | Path = ".env") -> None:
        self.path = Path(path)
        self._lock = ForkLock()  # guards the next two
        self._content = b""
        self._values: dict[str, SecretStr] = {}

    def __repr__(self) -> str:
        return f"DotenvFile({str(self.path)!r})"

    def get(self, name: str) -> str | None:
        """Return the value of a variable; None if the file or the line is missing.

        Raises:
            InvalidConfigurationError: the file exists and cannot be read.
        """
        value, fault = self._look_up(name)
        if fault:
            raise InvalidConfigurationError(f"{self.path.absolute()}: {fault}")
        return value.get_secret_value() if value else None

    def _look_up(self, name: str) -> tuple[SecretStr | None, str]:
        """Return the value, or what is wrong: a frame that raises must not contain the content."""
        content, fault = self._read()
        if fault:
            return None, fault
        with self._lock:
            if content != self._content:
                values = _parsed(content)
                if values is None:
                    return None, "is not text in UTF-8; write it as that"
                self._values, self._content = values, content
            return self._values.get(name), ""

    def _read(self) -> tuple[bytes, str]:
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return b"", "is not a regular file; write one, or remove it"
                content = file.read(_LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return b"", ""
        except OSError as error:
            return b"", f"cannot be read ({error.strerror}); check its rights, or remove it"
        if len(content) > _LARGEST:
            return b"", "is larger than 1 MiB; name there only what belongs into the environment"
        return content, ""


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parsed(content: bytes) -> dict[str, SecretStr] | None:
    with importing("dotenv"):
        from dotenv import dotenv_values  # noqa: PLC0415 - only where there is such a file

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: SecretStr(value) for name, value in values.items() if value is not None}
