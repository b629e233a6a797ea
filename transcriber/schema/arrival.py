"""When a payload came, on both clocks. Plain data."""

import time
from datetime import UTC, datetime
from typing import NamedTuple


class Arrival(NamedTuple):
    """When a payload came: monotonic seconds, and the wall clock."""

    at_s: float
    wall: datetime

    @classmethod
    def now(cls) -> "Arrival":
        return cls(time.monotonic(), datetime.now(UTC))
