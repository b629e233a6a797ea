"""Does memory grow? In: resident memory by time. Out: its slope, once the daemon is warm."""

from statistics import median

import numpy as np

WARM = 1 / 3
"""Share of the time in which the daemon grows into its buffers."""


def trend(rss_kb: dict[float, int], warm_s: float) -> dict[str, float]:
    """Least squares from ``warm_s`` on."""
    warm = {at_s: kb for at_s, kb in rss_kb.items() if at_s >= warm_s}
    slope, _ = np.polyfit(list(warm), list(warm.values()), 1)
    return {
        "slope_kb_per_hour": round(3600 * float(slope), 1),
        "spread_kb": max(warm.values()) - min(warm.values()),
        "warm_rss_kb": round(median(warm.values())),
    }
