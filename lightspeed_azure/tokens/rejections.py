"""How often a rejected token is replaced: at once the first time, then less and less often."""

from dataclasses import dataclass

from lightspeed_azure.tokens.lifetime import MARGIN, Held, Token, least_pause


@dataclass(frozen=True, slots=True)
class _Rejection:
    count: int  # replacements fetched for the same resource since it last accepted a token
    until: float  # monotonic seconds before which its rejections fetch no further token
    number: int  # of the token that was rejected


class Rejections:
    """Limits how often the rejections of one resource replace the token.

    A resource that also rejects the new token rejects every token, for example because of a wrong
    audience. Its rejections are ignored for a while, longer each time, until it accepts a newer
    token. Other resources are not affected. Changed under the token cache's lock.

    Attributes:
        last: the last rejection that replaced a token, by resource.
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: dict[str, _Rejection] = {}

    def replaces(self, held: Held, by: str, mono: float) -> bool:
        """Return whether to replace the token in hand, and count it.

        Args:
            held: the token in hand.
            by: the resource that rejected it.
            mono: monotonic seconds now.
        """
        before = self.last.get(by)
        if before is not None and mono < before.until:
            return False
        count = 0 if before is None else before.count + 1
        pause = min(MARGIN, least_pause(held) * 2 ** min(count, 8))
        self.last[by] = _Rejection(count, mono + pause, held.token.number)
        return True

    def accepted(self, token: Token, by: str) -> None:
        """Forget the rejections of a resource if the accepted token is newer than the rejected one."""
        before = self.last.get(by)
        if before is not None and token.number > before.number:
            del self.last[by]
