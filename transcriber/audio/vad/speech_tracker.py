"""Speech in the open window. In: for one frame of 32 ms after the other, whether it holds speech. Out: when speech began and ended."""

from transcriber.audio.vad.detector import MIN_SPEECH_FRAMES

BREATH_FRAMES = 10
"""Speech frames further apart do not count as the beginning of one utterance."""


class SpeechTracker:
    """Speech in the open window so far; frames of 32 ms are counted from the run's start.

    Attributes:
        next: number of the frame to add next.
        last_speech: the last one that held speech, or the one before the window.
        spoken: whether enough frames in a row held speech.
        onset: the one in which the latest utterance began.
    """

    __slots__ = ("_speech_frames", "last_speech", "next", "onset", "spoken")

    def __init__(self, first: int) -> None:
        self.next = self.onset = first
        self.last_speech = first - 1
        self.spoken = False
        self._speech_frames = 0  # of the latest utterance

    def add(self, speech: bool) -> bool:
        """Add whether the next frame holds speech; returns whether speech begins with it for the first time."""
        frame, self.next = self.next, self.next + 1
        if not speech:
            return False
        if frame - self.last_speech > BREATH_FRAMES or not self._speech_frames:
            self.onset, self._speech_frames = frame, 0
        self.last_speech = frame
        self._speech_frames += 1
        began = not self.spoken and self._speech_frames >= MIN_SPEECH_FRAMES
        self.spoken |= began
        return began
