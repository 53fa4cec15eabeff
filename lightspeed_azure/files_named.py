"""The files that a configuration names: are they there?"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightspeed_azure.block import Block
from lightspeed_azure.errors import InvalidConfigurationError
from lightspeed_azure.problems import Problem


def check_files(block: Block, given: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the files that a block names; waits for the disk.

    Args:
        block: a valid block.
        given: the keys that the operator wrote; other values came from the environment.
    """
    del given
    for key in type(block).model_fields:
        path = getattr(block, key)
        if isinstance(path, Path):
            text = _fault(key, path, block)
            if text:
                yield Problem((key,), text)


def _fault(key: str, path: Path, block: Block) -> str:
    """Return what is wrong with one file, or ""."""
    del block, key
    try:
        return "" if path.exists() else "there is no such file; correct the path, or create it"
    except (OSError, InvalidConfigurationError) as error:
        return f"cannot be read ({type(error).__name__}); check the rights of the file"
