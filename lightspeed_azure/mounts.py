"""Which files are mounts of their own, as Linux lists them."""

import os
import re
from pathlib import Path


def is_mounted_alone(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether a file is itself a mount point; False where nobody can say.

    Kubernetes mounts with `subPath` so, and containers engines a single bound file: what is
    mounted is one inode, and a file put in its place later is never seen.

    Args:
        path: the file, or a directory (never an answer: a directory's content can be replaced).
        mountinfo: the list; the fifth field of a line is the mount point, with white space in
            octal (https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
    """
    if path.is_dir():
        return False
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    wanted = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow the link that is asked about
    return any(_unescape(line.split(" ")[4]) == wanted for line in lines if line.count(" ") > 4)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)
