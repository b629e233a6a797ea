"""Where a payload belongs, by offsets that may be a little wrong.

In: the ``Audio-Offset`` of each payload that has one. Out: how far the payload lies from where counting alone would put it: a
hole, a repetition, and mostly 0.

Time comes from counting the received frames. Offsets show what is missing and what arrived twice; but not every publisher
counts: some round seconds, read a clock that jitters or drifts, count at another rate, or wrap at 32 bits. A short deviation that
a counting publisher would never produce is taken for jitter, and from then on shorter deviations are, too.
"""

from typing import NamedTuple

from transcriber.audio.format import AudioFormat

MIN_SLACK_S = 0.002
"""Smaller deviations are ignored: no payload is so short. Rounding to milliseconds deviates by a quarter of it."""

MAX_SLACK_S = 0.05
"""A larger deviation is a hole or a repetition, whatever the jitter."""

DRIFT = 1e-3
"""Offsets may run so much faster or slower than the audio: five times the drift of a cheap clock."""

CALM_S = 30.0
"""Jitter decays within about so many seconds of audio."""

RESTART_S = 10.0
"""A payload that lies more than this behind the clock is from a publisher that started over, not a repetition."""

ODD_STEPS = 3
"""After so many equally wrong steps at the beginning the publisher counts another unit."""

ODD, ALIKE = 0.03, 0.05
"""Relative deviations: from which a step is odd, and up to which it matches a unit."""

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
PER_SECOND = (1, 100, 1_000, 1_000_000, 1_000_000_000)
"""Rates and other units a second that offsets are counted in by mistake; beside bytes and payloads."""

WRAP = 2**32
"""Time stamps of RTP wrap here (RFC 3550)."""

WRAP_SLACK_S = 10.0
"""A wrapped offset must be so near to the expected one."""


class OffsetsSnapshot(NamedTuple):
    """State of a publisher's offsets: ``Offsets`` made from it judges all later ones alike.

    Attributes:
        origin: the offset of the session's frame 0, in frames; follows drift.
        jitter: recent deviation of offsets, in frames.
        last, frames, placed: the furthest offset, the frames of its payload, and the session's frame where that began.
        unit: offsets in a frame; not 1 if the publisher counts another unit, 0 if it does not count.
        odd: steps in a row that matched the unit ``guess``; -1 once the unit is known.
        exact: whether they are counted by this process, as for a file: then nothing is jitter.
    """

    origin: float
    jitter: float = 0.0
    last: int = 0
    frames: int = 0
    placed: int = 0
    unit: float = 1.0
    odd: int = 0
    guess: float = 1.0
    exact: bool = False


class Offsets:
    """The offsets of one session, in the order of its payloads.

    Attributes:
        initial: the state before the first of them.
    """

    __slots__ = (
        "_exact", "_fmt", "_frames", "_guess", "_jitter", "_last", "_odd", "_origin", "_placed", "initial", "unit"
    )  # fmt: skip

    def __init__(self, fmt: AudioFormat, snapshot: OffsetsSnapshot) -> None:
        self._fmt, self.initial = fmt, snapshot
        (
            self._origin, self._jitter, self._last, self._frames, self._placed,
            self.unit, self._odd, self._guess, self._exact,
        ) = snapshot  # fmt: skip

    @property
    def snapshot(self) -> OffsetsSnapshot:
        """The state now."""
        return OffsetsSnapshot(
            self._origin, self._jitter, self._last, self._frames, self._placed,
            self.unit, self._odd, self._guess, self._exact,
        )  # fmt: skip

    def at(self, frame: int) -> int | None:
        """The offset of the session's ``frame``; None if the publisher does not count frames."""
        return round(self._origin) + frame if self.unit == 1 else None

    def fits(self, offset: int, clock: int) -> bool:
        """Whether the payload follows without a gap, to the frame: nearly always, so this is quick."""
        return offset == self._origin + clock and self.unit == 1

    def away(self, offset: int, clock: int) -> float:
        """Frames from ``clock`` to where a payload with ``offset`` claims to belong; negative if that is behind."""
        if not self.unit:
            return 0.0
        away = offset / self.unit - self._origin - clock
        wrap = WRAP / self.unit
        return away + wrap if away < -wrap / 2 and abs(away + wrap) < WRAP_SLACK_S * self._fmt.rate else away

    def place(self, offset: int, frames: int, clock: int) -> int:
        """Place a payload of ``frames`` frames that arrived when the session's clock was at ``clock``.

        Returns how many frames are missing before it; negative if it begins so many before the clock.
        """
        if not self._jitter and self._odd < 0 and self.fits(offset, clock):
            self._last, self._frames, self._placed = offset, frames, clock  # a publisher that counts
            return 0
        if self._exact:
            return offset - round(self._origin) - clock
        if self._odd >= 0:
            self._look(offset, clock)
        away = self.away(offset, clock)
        if self.unit and abs(away - (offset / self.unit - self._origin - clock)) > 1:
            self._origin -= WRAP / self.unit
            self._last -= WRAP
        if away < 0 and frames and offset <= self._last:  # a repetition
            return self._placed - round((self._last - offset) / self.unit) - clock
        self._jitter *= 1 - min(1.0, frames / (CALM_S * self._fmt.rate))
        moved = self._judge(away, frames)
        most = DRIFT * frames
        self._origin += max(-most, min(most, away - moved))
        self._last, self._frames, self._placed = offset, frames, clock + moved
        return moved

    def _judge(self, away: float, frames: int) -> int:
        """How many of the ``away`` frames are a hole or a repetition: all or none."""
        size, least, most = abs(away), MIN_SLACK_S * self._fmt.rate, MAX_SLACK_S * self._fmt.rate
        if size <= least:
            return 0
        # Losses are whole payloads; among payloads of different sizes that cannot be checked.
        payloads = round(size / frames) if frames else 0
        whole = payloads > 0 and abs(size - payloads * frames) <= least
        hole = away > 0 and (whole or frames != self._frames)
        if size > most or (hole and size > 2 * self._jitter):
            return round(away)
        self._jitter = max(self._jitter, size)
        return 0

    def _look(self, offset: int, clock: int) -> None:
        """Find the unit from the step to ``offset``."""
        step = (offset - self._last) / self._frames if self._frames else 0.0
        if abs(step - 1) <= ODD:
            self._odd = -1
        if step < 0 or not self._frames or self._odd < 0:
            return
        units = [rate / self._fmt.rate for rate in RATES + PER_SECOND] + [self._fmt.frame_bytes, 1 / self._frames]
        nearest = min(units, key=lambda unit: abs(step / unit - 1)) if step else 0.0
        alike = not step or abs(step / nearest - 1) <= ALIKE
        self._odd = 0 if not alike else self._odd + 1 if nearest == self._guess else 1
        self._guess = nearest
        if self._odd == ODD_STEPS:  # all before was misread
            self.unit, self._odd = nearest, -1
            self._origin, self._jitter = (offset / nearest if nearest else 0.0) - clock, 0.0
