"""A YAML file, with the line of every key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightspeed_azure.config.block import Key, Problem
from lightspeed_azure.enrichment.yaml_faults import explain, find_control_character


class YamlFile:
    """The content of a YAML file, with the line of each key.

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
        problem: the problem, without any of the file's content.
        line: the line, from 1, or None when it belongs to no line.
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
        line, _ = explain(error)
        failure = _failure(line, "a key is given twice; keep one")
    except MarkedYAMLError as error:
        failure = _failure(*explain(error))
    except (YAMLError, ValueError):
        failure = _failure(*find_control_character(text))
    raise failure


def _round_trip() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - 60 ms, and only needed when there is a file

    return YAML(typ="rt", pure=True)


def _failure(line: int | None, problem: str) -> YamlFileError:
    """Return the error for a line, from 0; None when it belongs to no line."""
    return YamlFileError(Problem((), problem), None if line is None else line + 1)
