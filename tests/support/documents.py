"""The pages of the documentation and their code fences."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def fences(path: Path, language: str) -> list[str]:
    """Return the code of a page's fences in one language."""
    return [code for found, code in FENCE.findall(path.read_text()) if found == language]
