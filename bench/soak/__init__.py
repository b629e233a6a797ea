"""Does anything grow, and is any account wrong, over whole days? ``python -m bench.soak --minutes 60 --hours-of-audio 24``.

Rounds of a few seconds: sessions come and go, live and durable; files, clips and uploads are transcribed; connections are cut and
the broker is killed. After each round every session, text and result is checked, all that is stored is purged, and at rest it is
counted what the processes and the broker still hold. Out: the counts of every rest, what rose, and what was wrong.
"""

from bench.soak.command import measure

__all__ = ["measure"]
