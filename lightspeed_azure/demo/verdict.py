"""Whether a mode of the demo kept every promise."""

from dataclasses import dataclass

from lightspeed_azure.demo.watch import Watch


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: what was asked for, what was seen, and whether that is enough."""

    text: str
    seen: str
    kept: bool


def judge(watch: Watch, *, stack_has_key: bool) -> tuple[Promise, ...]:
    """Return each promise of a mode that has ended.

    Args:
        watch: the mode.
        stack_has_key: whether the stack was given an Azure key, by environment or configuration.
    """
    tally = watch.tally
    failures = "; ".join(f"{count} times {what}" for what, count in tally.failures.most_common(3))
    return (
        Promise(
            "every question was answered",
            failures or f"{tally.plain} plain, {tally.streamed} streamed",
            not tally.failures and tally.plain > 0 and tally.streamed > 0,
        ),
        Promise(
            "the token was renewed under load",
            f"{watch.tokens_seen} different token(s)",
            watch.tokens_seen >= 2,
        ),
        Promise(
            "Azure rejected none",
            f"{watch.rejected} rejected, {watch.accepted} accepted",
            watch.rejected == 0 and watch.accepted > 0,
        ),
        Promise(
            "no question but the first waited for a token",
            f"{watch.waits} waited",
            watch.waits <= 1,
        ),
        Promise(
            "the stack started without an Azure key",
            "a key" if stack_has_key else "no key",
            not stack_has_key,
        ),
    )
