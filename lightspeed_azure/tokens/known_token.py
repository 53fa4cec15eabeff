"""A token that a credential may give again out of its own cache."""


class KnownToken:
    """How long a token lives that a credential may give again out of its own cache."""

    def __init__(self, digest: str, wall: float, monotonic: float, expires_in: float) -> None:
        self.digest = digest
        self._wall = wall
        self._monotonic = monotonic
        self._expires_in = expires_in

    def remaining(self, wall: float, monotonic: float) -> float:
        """Return the seconds left, by the clock that went further: neither alone can be trusted."""
        return self._expires_in - max(wall - self._wall, monotonic - self._monotonic)
