"""A YAML file, with the line of every key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightspeed_azure.config.problems import Key, Problem


class YamlFile:
    """The content of a YAML file and where in it each key stands.

    Args:
        path: the file.

    Raises:
        YamlFileError: it cannot be read, or is not YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = _load(path)

    def line_of(self, key: Key) -> int:
        """Return the line (from 1) of a key, or of the nearest enclosing one that has a line."""
        node, line = self.tree, 1
        for part in key:
            positions = getattr(node, "lc", None)
            known = (getattr(positions, "data", None) or {}) if positions else {}
            position = next((known[name] for name in known if str(name) == str(part)), None)
            if position:
                line = position[0] + 1
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                break
        return line

    def where(self, key: Key) -> str:
        """Return `file:line` of a key."""
        return f"{self.path}:{self.line_of(key)}"


class YamlFileError(Exception):
    """A file cannot be read, or is not YAML.

    Attributes:
        problem: what is wrong, without any of the file's content.
        line: the line, from 1, or None when there is none to blame.
    """

    def __init__(self, problem: Problem, line: int | None = None) -> None:
        super().__init__(problem.text)
        self.problem = problem
        self.line = line


def plain(value: Any) -> Any:
    """Return a YAML value as plain Python: dict, list, str, bool, int, float, None."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _load(path: Path) -> Any:
    """Parse a file with ruamel.yaml, which keeps positions."""
    from ruamel.yaml.constructor import DuplicateKeyError  # noqa: PLC0415
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    failure: YamlFileError
    try:
        text = path.read_text(encoding="utf-8")
        return _round_trip().load(text)
    except FileNotFoundError:
        failure = YamlFileError(Problem((), "there is no such file; give its path, or create it"))
    except UnicodeDecodeError:
        failure = YamlFileError(Problem((), "is not text in UTF-8; save it as that"))
    except OSError as error:
        failure = YamlFileError(Problem((), f"cannot be read ({error.strerror}); check its rights"))
    except DuplicateKeyError as error:
        failure = YamlFileError(Problem((), "a key is given twice; keep one"), _line(error))
    except MarkedYAMLError as error:
        # What the parser quotes comes out of the file, and may be a secret without quotation marks.
        what = re.sub(
            r"['\"].{2,}['\"]", "…", str(error.problem or "cannot be parsed"), flags=re.DOTALL
        )
        text = f"is not valid YAML: {what}; put values with special characters in quotes"
        failure = YamlFileError(Problem((), text), _line(error))
    except (YAMLError, ValueError):
        failure = YamlFileError(Problem((), "is not valid YAML; check its encoding"))
    raise failure


def _round_trip() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - 60 ms, and only needed when there is a file

    return YAML(typ="rt", pure=True)


def _line(error: Any) -> int | None:
    # What was being scanned began where the fault is; what was being parsed began long before.
    scanning = str(error.context or "").startswith("while scanning")
    mark = (scanning and error.context_mark) or error.problem_mark or error.context_mark
    return None if mark is None else int(mark.line) + 1
