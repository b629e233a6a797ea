from bench.lib.voices.cast import bundled
from bench.lib.voices.dialogues import dialogues
from bench.lib.voices.labelled import live, whole_file
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.diarization.networks import VoiceNetworks


def test_the_real_labellers_hear_a_dialogue_in_each_way():
    (dialogue,), networks = dialogues(7, 1, bundled(), 12.0), VoiceNetworks()

    session = live(dialogue.samples, LiveLabeller(networks), load_settings(), Silero())
    file, took_s = whole_file(dialogue.samples, networks)

    said_s = sum(end_s - start_s for _, start_s, end_s in dialogue.turns)
    for turns in (session.first, session.revised, file):
        assert all(0 <= start_s < end_s <= dialogue.duration_s for _, start_s, end_s in turns)
        assert sum(end_s - start_s for _, start_s, end_s in turns) > 0.7 * said_s
        assert {speaker for speaker, _, _ in turns} == {"0", "1"}
    assert len(session.known) == 2
    assert all(window.labelled_s > 0 for window in session.windows)
    assert took_s > 0
