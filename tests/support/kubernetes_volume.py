"""A directory that changes as the kubelet changes a mounted Secret."""

import itertools
from pathlib import Path


class KubernetesVolume:
    """Files are symbolic links into `..data`, itself a link that is swapped in one step.

    https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go

    Args:
        path: the directory, which must not exist yet.
        **files: names and contents.
    """

    def __init__(self, path: Path, **files: str | bytes) -> None:
        self.path = path
        self._numbers = itertools.count()
        path.mkdir()
        self.swap(**files)
        for name in files:
            (path / name).symlink_to(f"..data/{name}")

    def swap(self, **files: str | bytes) -> None:
        """Put new contents in the place of the old ones, all at once."""
        new = self.path / f"..{next(self._numbers)}"
        new.mkdir()
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (new / name).write_bytes(data)
        link, current = self.path / "..data_tmp", self.path / "..data"
        old = current.resolve() if current.exists() else None
        link.symlink_to(new.name)
        link.rename(current)
        if old:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
