"""A token bucket whose clock is the journal's: the same records are always thinned out in the same way."""

from __future__ import annotations


class Bucket:
    """Takes `burst` at once and `per_second` on average, and counts what it did not take."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = 0.0
        self.dropped = 0

    def takes(self, at: float) -> bool:
        """Says whether there is room for one more at this time (seconds). After a drop, room for a second's worth."""
        self._tokens = min(self._burst, self._tokens + max(0.0, at - self._at) * self._per_second)
        self._at = max(self._at, at)
        needed = min(self._per_second, self._burst) if self.dropped else 1.0
        if self._tokens < needed:
            self.dropped += 1
            return False
        self._tokens -= 1.0
        return True

    def forgive(self) -> int:
        """Gives the number not taken, and counts anew."""
        dropped, self.dropped = self.dropped, 0
        return dropped
