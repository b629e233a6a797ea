"""When a payload arrived, on both clocks. Plain data."""

import time
from datetime import UTC, datetime
from typing import NamedTuple


class Arrival(NamedTuple):
    """When a payload arrived: monotonic seconds, and the wall clock."""

    at_s: float
    wall: datetime

    @classmethod
    def now(cls) -> "Arrival":
        return cls(time.monotonic(), datetime.now(UTC))
