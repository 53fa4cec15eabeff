"""The uv that the Makefile uses."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def uv_command() -> str:
    """Return the uv that the Makefile uses: on the path, or in its own folder."""
    own = ROOT / ".uv-bootstrap" / "bin" / "uv"
    return str(own) if own.exists() else "uv"
