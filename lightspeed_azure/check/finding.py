"""The result of one check."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The health of the part that was checked."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; no field holds a secret.

    Attributes:
        question: what was checked, in a word or two.
        state: its health.
        found: what was found, in one line.
        cure: what to do, or "".
    """

    question: str
    state: State
    found: str
    cure: str = ""


def ok(question: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(question, State.OK, found)


def warning(question: str, found: str, cure: str = "") -> Finding:
    """Return a finding that works but may not be intended, or that cannot be verified."""
    return Finding(question, State.WARNING, found, cure)


def failed(question: str, found: str, cure: str) -> Finding:
    """Return a finding that does not work, with its cure."""
    return Finding(question, State.FAILED, found, cure)


def from_problem(question: str, problem: str, *, state: State = State.FAILED) -> Finding:
    """Return the finding for a problem that is worded as `what is wrong; what to do`.

    A problem without the second half has no cure of its own; its text is never shown twice.
    """
    what, separator, cure = problem.rpartition("; ")
    if not separator:
        return Finding(question, state, problem)
    return Finding(question, state, what, cure[:1].upper() + cure[1:])


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as values for JSON."""
    return {
        "ok": all(finding.state is not State.FAILED for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
