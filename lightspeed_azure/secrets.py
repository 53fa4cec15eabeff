"""Secrets in memory and in files.

A `Redacted` value shows nothing in its repr. Debuggers and error trackers print the local variables of
each frame of a traceback, so whatever holds a secret there as plain text is one: the configuration that
comes in, the header that goes out.

A `SecretFile` is read again each time, without watchers. When a Kubernetes Secret changes, the kubelet
swaps a `..data` symbolic link, so neither the time stamp nor the inode of the path says anything; the
content does. Reading costs about 10 µs.
"""

import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lightspeed_azure.concurrency.fork import ForkLock
from lightspeed_azure.errors import InvalidConfigurationError, shown_path

_LOG = logging.getLogger(__name__)

_LARGEST = 1 << 20
"""Bytes: no secret, certificate with chain, or assertion comes near."""


_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Opening a pipe must not wait for its other end."""


class Redacted:
    """A value whose repr shows nothing of it; the value itself is as usable as any other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<redacted>"


class RedactedStr(Redacted, str):
    """A text, such as the value of a header."""

    __slots__ = ()


class RedactedDict(Redacted, dict[str, Any]):
    """A mapping, such as a configuration or provider data; values inside it have their own repr."""


def redacted(configuration: Any) -> Any:
    """Return mappings, and those in a list, as `RedactedDict`; any other value as it is."""
    if isinstance(configuration, Mapping):
        return RedactedDict({str(key): item for key, item in configuration.items()})
    if isinstance(configuration, list | tuple):
        return [redacted(item) for item in configuration]
    return configuration


class SecretFile:
    """A file, or the file of a known name in a directory; safe to use from several threads.

    A file that is missing, empty, unreadable, or refused by `check` does not replace the last good
    value, which stays in use with one warning for each change of state. Any other content is used
    as it is: a file that is not replaced atomically may be read while it is being written.

    Args:
        path: the file, or a directory as Kubernetes mounts a Secret.
        default_name: the name of the file inside, when `path` is a directory.
        key: the configuration key that names the file, for messages.
        check: raises ValueError with one clause ("is …; do …") for content that cannot be whole.
        binary: whether the content is taken as it is; otherwise it is text, and trimmed.
        mountinfo: where Linux lists the mounts.

    Attributes:
        failures: how many reads had to fall back on the last good value.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        default_name: str = "client_secret",
        key: str = "client_secret_path",
        check: Callable[[bytes], None] | None = None,
        binary: bool = False,
        mountinfo: Path = Path("/proc/self/mountinfo"),
    ) -> None:
        self.path = Path(path)
        self.key = key
        self.failures = 0
        self._default_name = default_name
        self._check = check
        self._binary = binary
        self._mountinfo: Path | None = mountinfo
        self._lock = ForkLock()  # guards the next two, `failures` and `_fault`
        self._good: bytes | None = None
        self._known: tuple[bytes, bytes] | None = None  # what was read last and found good
        self._at = ""  # where it was found last
        self._fault = ""

    def __repr__(self) -> str:
        return f"SecretFile({self.label!r})"

    @property
    def label(self) -> str:
        """The key and the path, for a message; the key alone if the path may be a secret."""
        return f"{self.key} {shown_path(self.path)}".rstrip()

    @property
    def fault(self) -> str:
        """What was wrong when it was last read, or "" when nothing was."""
        return self._fault

    def read(self) -> SecretStr:
        """Return the text in the file, or the last good one; may wait for the disk.

        Raises:
            InvalidConfigurationError: there never was a good one.
        """
        return SecretStr(self.read_bytes().decode())

    def read_bytes(self) -> bytes:
        """Return the content of the file, or the last good one; may wait for the disk.

        Raises:
            InvalidConfigurationError: there never was a good one.
        """
        content, fault = self._load()
        with self._lock:
            if content is not None:
                self._good = content
            if self._good is None:
                raise InvalidConfigurationError(
                    ": ".join(filter(None, (self.key, shown_path(self.path), fault)))
                )
            changed = self._note(fault)
            good = self._good
        if changed:
            self._tell(fault)
        self._note_mount()
        return good

    def fingerprint(self) -> int:
        """Return a number that differs when `read` would now return something else; never fails."""
        content, _ = self._load()
        return hash(self._good if content is None else content)

    def _load(self) -> tuple[bytes | None, str]:
        """Return the content, or None and what is wrong with it."""
        try:
            content = self._checked(self._bytes())
        except FileNotFoundError:
            fault = "there is no such file; correct the path, or create it"
            if self.path.is_dir():
                fault = (
                    f"is a directory without a file {self._default_name}; add it, or name the file "
                    "itself"
                )
        except UnicodeDecodeError:
            fault = "is not text; write the secret as text in UTF-8"
        except OSError as error:
            fault = f"cannot be read ({error.strerror}); check its type and its rights"
        except ValueError as error:
            fault = str(error)
        else:
            return content, ""
        return None, fault

    def _checked(self, raw: bytes) -> bytes:
        """Return what counts of the content; what was found good before is not looked at again.

        Raises:
            ValueError: it is not good.
        """
        known = self._known
        if known is not None and known[0] == raw:
            return known[1]
        content = raw
        if not self._binary:
            text = raw.decode("utf-8-sig").strip()
            if not text.isprintable():
                raise ValueError("holds more than one line of text; write the value alone")
            content = text.encode()
        if not content:
            raise ValueError("is empty; write the value into it")
        if self._check:
            self._check(content)
        self._known = raw, content
        return content

    def _bytes(self) -> bytes:
        """Read the file, once more if it changed meanwhile, or if it stands elsewhere now."""
        for _ in range(2):
            try:
                content, whole = _read(self._at)
            except (OSError, ValueError):
                before, self._at = self._at, str(self._place())
                if before == self._at:
                    raise
                content, whole = _read(self._at)
            if whole:
                break
        if len(content) > _LARGEST:
            raise ValueError("is larger than 1 MiB; name the file that holds the secret alone")
        return content

    def _place(self) -> Path:
        return self.path / self._default_name if self.path.is_dir() else self.path

    def _note(self, fault: str) -> bool:
        """Record the state of the file; return whether it has changed."""
        self.failures += bool(fault)
        changed = fault != self._fault
        self._fault = fault
        return changed

    def _tell(self, fault: str) -> None:
        """Log a change of state; not under the lock, because a log handler may block."""
        if fault:
            _LOG.warning("%s: %s. The last good value stays in use", self.label, fault)
        else:
            _LOG.info("%s is good again", self.label)

    def _note_mount(self) -> None:
        """Say once that this file will never be updated."""
        mountinfo, self._mountinfo = self._mountinfo, None
        if mountinfo and is_mounted_alone(self._place(), mountinfo):
            _LOG.warning(
                "%s is on a subPath mount in Kubernetes, or mounted as a single file: it is "
                "never updated, and a rotated secret takes a restart. Mount the directory instead",
                self.label,
            )


def _read(path: str) -> tuple[bytes, bool]:
    """Return the content of a regular file, and whether it stayed the same while it was read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file; only one can be read again and again.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise ValueError("is not a regular file; name a file that can be read more than once")
        content = os.read(descriptor, min(before.st_size or _LARGEST, _LARGEST) + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    same = before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns
    return content, same


def is_mounted_alone(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a path is mounted so that no update reaches it; False where that is unknown.

    Kubernetes mounts with `subPath` so, and containers engines a single bound file: what is
    mounted is one inode, and a file put in its place later is never seen. A directory mounted with
    `subPath` is one inside a version of the volume (`/..2026_11_21…`), which the next one replaces.

    Args:
        path: the file, or a directory; one that is mounted as a whole volume is updated.
        mountinfo: the list; of a line, the fourth field is the directory that is mounted, and the
            fifth the mount point, with white space in octal
            (https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
    """
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        # /var/run is a link to /run; the last part may be a link that is asked about.
        wanted = path.parent.resolve() / path.name
    except (OSError, RuntimeError):
        return False
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 5:
            continue
        root, point = _unescape(fields[3]), Path(_unescape(fields[4]))
        is_version = any(part.startswith("..") for part in root.split("/"))
        if (point == wanted and not path.is_dir()) or (is_version and wanted.is_relative_to(point)):
            return True
    return False


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)
