"""Offsets that are a little wrong, and holes too short to matter: windows continue, and the account is exact."""

import random

from hypothesis import given, settings, strategies as st

from tests.support.synthetic_speech import LoudnessDetector, joined, silence, speech
from transcriber.audio.format import AudioFormat
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.session import Gap, Silence, Window
from transcriber.audio.stream import Ended, Stream
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.audio.window_policy import WindowPolicy

RATE = 16_000
FORMAT = AudioFormat(rate=RATE)


def stream(fmt=FORMAT, policy=None, network=None):
    return Stream(fmt, policy or WindowPolicy(5.0), network, max_hole_s=600, new_id=lambda: "call")


SPOKEN = (joined(speech(90), silence(40), speech(90), silence(40)) * 32_000).astype("<i2").tobytes()


@st.composite
def publications(draw):
    """Payloads of speech as a bad line brings them: some never, some twice, with offsets that jitter and drift."""
    frames = draw(st.sampled_from([160, 320, 480, 640, 1_600]))
    drift, jitter = draw(st.sampled_from([0, 0, 2e-4, -2e-4])), draw(st.sampled_from([0, 0, 1, 16, 100, 400]))
    loss, echo = draw(st.sampled_from([0, 0.005, 0.02, 0.1])), draw(st.sampled_from([0, 0, 0.02]))
    return frames, drift, jitter, loss, echo, draw(st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(publications())
def test_whatever_a_line_does_the_account_is_exact_and_speech_is_no_silence(publication):
    frames, drift, jitter, loss, echo, seed = publication
    chance = random.Random(seed)
    source = stream(
        policy=WindowPolicy(2.0, quiet_cut=True, endpoint_s=0.5, speech_gate=True), network=LoudnessDetector()
    )
    events, silent_frames = [], 80 * FRAME_SAMPLES

    sent = 0
    for start in range(0, len(SPOKEN) // 2, frames):
        if chance.random() < loss:
            continue
        payload = SPOKEN[2 * start : 2 * (start + frames)]
        offset = max(0, round(start * (1 + drift) + chance.uniform(0, jitter)))
        for _ in range(1 + (chance.random() < echo)):
            events += source.feed(payload, AudioHeaders(offset=offset))
        sent += len(payload) // 2
    events += source.end()

    if not sent:
        return
    assert isinstance(events[-1], Ended)
    session = events[-1].session
    place = 0
    for event in events:
        if isinstance(event, Gap):
            assert event.bridged or event.start_frame == place
            session.account.settle(FrameOutcome.LOST, event.start_frame, event.frames)
        if isinstance(event, Window | Silence) or (isinstance(event, Gap) and not event.bridged):
            assert event.start_frame == place
            place += event.frames
    for event in events:
        if isinstance(event, Window | Silence):
            outcome = FrameOutcome.SILENT if isinstance(event, Silence) else FrameOutcome.TRANSCRIBED
            session.account.settle(outcome, event.start_frame, event.frames)
    session.closed = True
    account = session.account
    assert session.complete
    assert place == session.clock == session.received + account[FrameOutcome.LOST]
    assert session.received == account[FrameOutcome.TRANSCRIBED] + account[FrameOutcome.SILENT]
    assert account[FrameOutcome.SILENT] <= silent_frames
    if not (jitter or echo):
        assert session.received == sent
