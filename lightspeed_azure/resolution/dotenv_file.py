"""The `.env` file of the working directory, read again each time; the only file with python-dotenv.

A library, because quotes, `export`, comments and escapes then mean here what they mean to all the
others who read the file. Nothing is put into the process's environment, and `${…}` is not replaced.
"""

import io
import threading
from pathlib import Path

from lightspeed_azure.errors import InvalidConfigurationError

_LARGEST = 1 << 20
"""Bytes: no such file comes near."""


class DotenvFile:
    """A `.env` file; parsed only when its content has changed. Safe for any number of threads.

    Args:
        path: the file; relative to the working directory of each moment.
    """

    def __init__(self, path: str | Path = ".env") -> None:
        self.path = Path(path)
        self._lock = threading.Lock()  # guards the next two
        self._content = b""
        self._values: dict[str, str | None] = {}

    def __repr__(self) -> str:
        return f"DotenvFile({str(self.path)!r})"

    def get(self, name: str) -> str | None:
        """Return the value of a variable, None when the file or the line is missing.

        Raises:
            InvalidConfigurationError: there is a file that cannot be read.
        """
        content = self._read()
        with self._lock:
            if content != self._content:
                self._values = _parsed(content, self.path)
                self._content = content
            return self._values.get(name)

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                content = file.read(_LARGEST + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return b""
        except OSError as error:
            fault = f"cannot be read ({error.strerror}); check its rights, or remove it"
        else:
            if len(content) <= _LARGEST:
                return content
            fault = "is larger than 1 MiB; name there only what belongs into the environment"
        raise InvalidConfigurationError(f"{self.path.absolute()}: {fault}")


def _parsed(content: bytes, path: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only where there is such a file

    if not content:
        return {}
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise InvalidConfigurationError(
            f"{path.absolute()}: is not text in UTF-8; write it as that"
        )
    return dict(dotenv_values(stream=io.StringIO(text), interpolate=False))
