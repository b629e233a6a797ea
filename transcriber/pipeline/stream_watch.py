"""The present state of all streams, for those who show it and for publishers that resume.

In: the sessions that are served. Out: a ``StreamFigure`` of each, whenever it is asked.
"""

import math
from collections.abc import Mapping

import numpy as np

from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.session import Session
from transcriber.pipeline.ingest import Served
from transcriber.pipeline.session_output import SessionOutput
from transcriber.schema.stream_figures import Missing, StreamFigure

KEPT_S = 60.0
"""Seconds for which the last session of a stream is still reported after its end."""

LEVEL_S = 1.0
"""Seconds of audio whose level is reported."""

FLOOR_DBFS = -120.0
"""Of digital silence, whose logarithm is no number."""


class StreamWatch:
    """Collects the figures. Event loop only."""

    def __init__(self, streams: Mapping[str, Served]) -> None:
        self._streams = streams
        self._known: dict[tuple[str, str], tuple[Session, SessionOutput]] = {}
        self._levels: dict[tuple[str, str], float] = {}  # dBFS
        self._ended: dict[str, tuple[float, StreamFigure]] = {}  # by stream, with the time of its end

    def look(self, now_s: float) -> tuple[StreamFigure, ...]:
        """Of each session with audio or text to come, and of each stream's last one that ended within ``KEPT_S``; by name."""
        present = {
            (name, session.id): (session, output)
            for name, stream in self._streams.items()
            for session, output in stream.outputs.items()
        }
        for (name, session_id), (session, output) in self._known.items():
            # One that is not closed has another owner now.
            if (name, session_id) not in present and session.closed:
                self._ended[name] = now_s, self._figure(name, session, output)
        self._known = present
        self._ended = {
            name: (at_s, figure)
            for name, (at_s, figure) in self._ended.items()
            if now_s - at_s < KEPT_S and (name, figure.session) not in present
        }
        self._levels = {key: level for key, level in self._levels.items() if key in present}
        figures = [self._figure(name, *both) for (name, _), both in present.items()]
        figures += [figure for _, figure in self._ended.values()]
        return tuple(sorted(figures, key=lambda one: (one.stream, one.session)))

    def _figure(self, name: str, session: Session, output: SessionOutput) -> StreamFigure:
        cutters = [session.cutter(channel) for channel in range(session.channels)]
        speaking = [spoken for cutter in cutters if (spoken := cutter.speaking) is not None]
        lost = session.account[FrameOutcome.LOST] + session.account[FrameOutcome.DROPPED]
        return StreamFigure(
            stream=name,
            session=session.id,
            state="ended" if session.closed else output.shown_state,
            rate=session.rate,
            received_frames=session.received,
            next_offset=_offset(session, session.clock),
            missing=tuple(_missing(session, *lost) for lost in output.missing),
            level_dbfs=None if session.closed else self._level(name, session),
            speaking=any(speaking) and not session.closed if speaking else None,
            last_text_at=output.last_text_at,
            lag_s=output.lag_s,
            lost_s=lost / session.rate,
        )

    def _level(self, name: str, session: Session) -> float | None:
        """Of the loudest channel; where a window has just begun and holds no samples yet, as before."""
        key, samples = (name, session.id), int(LEVEL_S * TARGET_SAMPLE_RATE)
        latest = [session.cutter(channel).latest(samples) for channel in range(session.channels)]
        if levels := [dbfs(float(np.mean(np.square(one)))) for one in latest if len(one)]:
            self._levels[key] = max(levels)
        return self._levels.get(key)


def _offset(session: Session, frame: int) -> int | None:
    return None if session.offsets is None else session.offsets.at(frame)


def _missing(session: Session, start_frame: int, frames: int) -> Missing:
    offset = _offset(session, start_frame)
    return Missing(offset=start_frame if offset is None else offset, frames=frames)


def dbfs(power: float) -> float:
    """A mean square of samples in [-1, 1] as a level, to 0.1 dB; 0 is a square wave of full scale."""
    return max(FLOOR_DBFS, round(10 * math.log10(power), 1)) if power > 0 else FLOOR_DBFS
