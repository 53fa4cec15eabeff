"""The resolvers that answer for keys: whether each could be loaded, and did answer when asked."""

from collections.abc import Iterator

from lightspeed_azure.check.finding import Finding, ill, look, well
from lightspeed_azure.keys import ResolverStatus, status

RESOLVER = "resolver"

_CURES = {
    "timeout": "See whether what it asks is up, or raise its timeout",
    "unloadable": "Correct its block, or install its package",
}


def of_resolvers() -> Iterator[Finding]:
    """Yield how each resolver of the process is, after the keys were looked up; asks nobody."""
    for each in status():
        yield _of(each)


def _of(each: ResolverStatus) -> Finding:
    question = f"{RESOLVER} ({each.name})"
    if each.last_error:
        cure = _CURES.get(each.last_error, "Mend what it asks; until then on_error decides")
        return ill(question, each.last_error_text, cure)
    if not each.answers + each.passes + each.failures:
        cure = f"Write source: {{plugin: {each.name}}} where its keys are wanted"
        return look(question, f"of the {each.source}, was not asked", cure)
    if not each.answers:
        cure = (
            "Compare what it is asked for with what it holds; it is no fault where others have it"
        )
        where = f": {each.last_pass}" if each.last_pass else ""
        return look(question, f"has no key that is asked for{where}", cure)
    return well(question, f"answers; asked {each.answers + each.passes} times")
