"""One answer of the doctor's."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How well something is."""

    WELL = "well"
    LOOK = "look"
    ILL = "ill"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question; no field holds a secret.

    Attributes:
        question: what was asked, in a word or two.
        state: how well it is.
        found: what was found, in one line.
        cure: what to do, or "".
    """

    question: str
    state: State
    found: str
    cure: str = ""


def well(question: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(question, State.WELL, found)


def look(question: str, found: str, cure: str = "") -> Finding:
    """Return that something works, but may not be what was meant, or cannot be known."""
    return Finding(question, State.LOOK, found, cure)


def ill(question: str, found: str, cure: str) -> Finding:
    """Return that something does not work, and what mends it."""
    return Finding(question, State.ILL, found, cure)


def of_problem(question: str, problem: str, *, state: State = State.ILL) -> Finding:
    """Return the finding for a problem that is worded as `what is wrong; what to do`.

    A problem without the second half has no cure of its own; its text is never shown twice.
    """
    what, separator, cure = problem.rpartition("; ")
    if not separator:
        return Finding(question, state, problem)
    return Finding(question, state, what, cure[:1].upper() + cure[1:])


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as what JSON can say."""
    return {
        "well": all(finding.state is not State.ILL for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
