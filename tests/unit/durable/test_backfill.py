"""Freshness now, completeness later: what was dropped under load is transcribed when the worker idles."""

from transcriber.durable.backfill import _union


def test_union_counts_each_frame_once():
    assert _union([(5, 9), (0, 3), (2, 4), (6, 7)]) == 8
