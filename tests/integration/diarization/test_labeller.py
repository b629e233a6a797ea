import sys
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from bench import voices as bench
from bench.voices import bundled, confusion, conversation, labelled
from tests.support import requirements
from transcriber.diarization import weights as voice_weights
from transcriber.diarization.clustering import MOST_GROUPS, Clustering, unit
from transcriber.diarization.embedding import FRAMES, VoiceNetwork
from transcriber.diarization.labeller import SHORTEST_S, SURE_S, TurnFeeder, VoiceLabeller, label
from transcriber.diarization.weights import SIZE
from transcriber.errors import ConfigError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.mel_filters import mel_filters
from transcriber.models.ggml import check_model_file, read_mel_filters

RATE = 16_000


@pytest.fixture(scope="module")
def network():
    return VoiceNetwork()


class Tape:
    """A labeller that records its turns."""

    def __init__(self):
        self.heard = []

    def add_turn(self, samples, start_s, end_s):
        self.heard.append((samples.tolist(), start_s, end_s))

    def labels(self):
        return ["A"] * len(self.heard)


def by_level(samples):
    """A network for turns of one level each: every level is a voice unlike all others."""
    voice = np.zeros(SIZE, np.float32)
    if samples.any():
        voice[round(float(samples[0]) * 10)] = 1
    return voice


def turn(level, duration_s=2.0):
    return np.full(round(duration_s * RATE), level / 10, np.float32)


def said(*turns):
    """Labels of turns (level, duration, pause before it)."""
    labeller, at_s = VoiceLabeller(by_level), 0.0
    for level, duration_s, pause_s in turns:
        at_s += pause_s
        labeller.add_turn(turn(level, duration_s), at_s, at_s + duration_s)
        at_s += duration_s
    return "".join(labeller.labels())


def vectors(rng, number):
    return unit(np.maximum(0, rng.standard_normal((number, 64), np.float32)))


def around(rng, voice, number):
    """Unit vectors near ``voice``."""
    return unit(2 * voice + vectors(rng, number))


def test_labels_are_letters_in_the_order_of_appearance():
    assert said((3, 2, 0), (1, 2, 1), (3, 2, 1), (5, 2, 1), (1, 2, 1)) == "ABACB"
    assert [label(number) for number in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_a_turn_too_short_to_be_known_has_the_label_of_the_nearest_one():
    short = SHORTEST_S / 2

    assert said((1, 2, 0), (7, short, 0.1), (2, 2, 0.5)) == "AAB"
    assert said((1, 2, 0), (7, short, 0.5), (2, 2, 0.1)) == "ABB"
    assert said((7, short, 0), (7, short, 0), (2, 2, 0.1), (3, 2, 0.1), (7, short, 9)) == "AAABB"


def test_a_turn_in_which_nothing_sounds_has_the_label_of_the_nearest_one():
    assert said((1, 2, 0), (0, 2, 0.5), (2, 2, 0.1)) == "ABB"


def test_without_diarization_there_is_one_speaker():
    assert said((1, 0.1, 0), (2, 0.1, 3)) == "AA"
    assert VoiceLabeller(by_level).labels() == []


def test_a_short_turn_makes_no_new_voice_unless_all_are_short():
    short = (SHORTEST_S + SURE_S) / 2

    assert len(set(said((1, 2, 0), (2, short, 1), (3, 2, 1)))) == 2
    assert said((1, short, 0), (2, short, 1), (1, short, 1)) == "ABA"


def test_where_the_number_of_speakers_is_known_there_are_no_more():
    labeller = VoiceLabeller(by_level, most=2)
    for at_s, level in enumerate((1, 2, 3, 4, 1)):
        labeller.add_turn(turn(level), 2 * at_s, 2 * at_s + 2)

    assert len(set(labeller.labels())) == 2


@given(
    ends=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 500)), max_size=6),
    sizes=st.lists(st.integers(0, 400), max_size=12),
    hole=st.tuples(st.integers(0, 1500), st.integers(0, 300)),
)
def test_turns_sound_the_same_in_whatever_pieces_the_audio_comes(ends, sizes, hole):
    sound = np.arange(1, 1501, dtype=np.float32)
    turns_s, first, at = [], 0, 0
    for gap, length in ends:
        first = max(first, at + gap - 50)  # some overlap
        at = first + length
        turns_s.append((first / RATE, at / RATE))
    whole, pieces = Tape(), Tape()
    present = [sound[: hole[0]], sound[hole[0] + hole[1] :]]
    places = [0, hole[0] + hole[1]]

    feeder = TurnFeeder(turns_s, whole)
    for samples, place in zip(present, places, strict=True):
        feeder.push(samples, place)
    feeder.flush()
    feeder = TurnFeeder(turns_s, pieces)
    for samples, place in zip(present, places, strict=True):
        cuts = [0, *(cut for cut in np.cumsum(np.array(sizes, int)).tolist() if cut < len(samples)), len(samples)]
        for start, stop in pairwise(cuts):
            feeder.push(samples[start:stop], place + start)
    feeder.flush()

    assert pieces.heard == whole.heard
    assert [heard[1:] for heard in whole.heard] == turns_s
    heard = [sample for samples, _, _ in whole.heard for sample in samples]
    assert heard == sorted(set(heard)), "each sample once"
    missing = set(range(hole[0], hole[0] + hole[1]))
    wanted = {i for start_s, end_s in turns_s for i in range(round(start_s * RATE), min(1500, round(end_s * RATE)))}
    assert {int(sample) - 1 for sample in heard} == wanted - missing


@settings(max_examples=30, deadline=None)
@given(voices=st.integers(1, 6), order=st.lists(st.integers(0, 5), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_vectors_of_one_voice_are_one_group(voices, order, seed):
    rng = np.random.default_rng(seed)
    centres, order = vectors(rng, voices), [number % voices for number in order]
    drawn = [around(rng, centres[number], 1)[0] for number in order]
    similarities = [a @ b for (i, a), (j, b) in combinations(zip(order, drawn, strict=True), 2) if i != j]
    assume(max(similarities, default=0) < 0.7)  # some two of six voices are alike
    clustering = Clustering(0.73)
    for vector in drawn:
        clustering.add(vector)

    groups = clustering.groups()

    assert len(set(zip(order, groups, strict=True))) == len(set(order)) == len(set(groups))
    assert list(dict.fromkeys(groups)) == list(range(len(set(groups))))
    assert clustering.groups() == groups


def test_more_vectors_than_are_compared_at_once_are_clustered_in_bounded_memory():
    rng = np.random.default_rng(1)
    centres, count = vectors(rng, 5), 3 * MOST_GROUPS
    clustering = Clustering(0.73)
    most = 0
    for number in range(count):
        clustering.add(around(rng, centres[number % 5], 1)[0], sure=number % 3 > 0)
        most = max(most, len(clustering._sums) + len(clustering._unsure))

    groups = clustering.groups()

    assert len(set(groups)) == 5
    assert groups == [groups[number % 5] for number in range(count)]
    assert most <= 2 * MOST_GROUPS


def test_filters_are_those_that_the_network_was_trained_with():
    # OpenAI's, in the model's file, are librosa's too, of 80 bands.
    assert mel_filters(80) == pytest.approx(read_mel_filters(DEMO_MODEL, check_model_file(DEMO_MODEL)), abs=1e-7)


def test_without_the_weights_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(voice_weights, "PACKAGE", "no-such-package")

    with pytest.raises(ConfigError, match=r"pip install --no-deps resemblyzer==\d"):
        VoiceNetwork()


def test_weights_that_are_not_known_are_refused(monkeypatch, tmp_path):
    (tmp_path / "pretrained.pt").write_bytes(b"\x80\x02cos\nsystem\n.")
    monkeypatch.setattr(voice_weights, "weights_file", lambda: tmp_path / "pretrained.pt")

    with pytest.raises(ConfigError, match="not of the version we know"):
        VoiceNetwork()


@requirements.weights
def test_network_is_its_definition(network):
    mel = np.random.default_rng(2).random((FRAMES, 3, 40)).astype(np.float32)
    layers, linear, bias = (part.astype(np.float64) for part in voice_weights.read_weights())
    biases = layers[-3 * 2 * 4 * SIZE :].reshape(3, 2, 4 * SIZE).sum(axis=1)
    came, at = mel.astype(np.float64), 0
    for layer in range(3):
        width = came.shape[2]
        into, across = np.split(layers[at : at + 4 * SIZE * (width + SIZE)], [4 * SIZE * width])
        at += 4 * SIZE * (width + SIZE)
        hidden, cell = np.zeros((3, SIZE)), np.zeros((3, SIZE))
        left = []
        for frame in came:
            total = frame @ into.reshape(-1, width).T + hidden @ across.reshape(-1, SIZE).T + biases[layer]
            gate_in, gate_forget, new, gate_out = np.split(total, 4, axis=1)
            cell = cell / (1 + np.exp(-gate_forget)) + np.tanh(new) / (1 + np.exp(-gate_in))
            hidden = np.tanh(cell) / (1 + np.exp(-gate_out))
            left.append(hidden)
        came = np.array(left)

    (out,) = network._session.run(None, {"mel": mel})

    assert out == pytest.approx(np.maximum(0, came[-1] @ linear.reshape(SIZE, SIZE).T + bias), abs=1e-5)


@requirements.weights
def test_a_voice_is_a_vector_of_length_1_whatever_its_loudness(network):
    speech = bundled()["man"][0].samples

    quiet, loud = network(speech * np.float32(0.01)), network(speech * np.float32(0.1))

    assert np.linalg.norm(loud) == pytest.approx(1, abs=1e-6)
    assert quiet @ loud > 0.99
    assert not network(np.zeros(RATE, np.float32)).any()
    assert not {"resemblyzer", "torch"} & set(sys.modules), "only a file of the package is read"


@requirements.weights
@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_synthetic_voices_are_separated(network, speakers):
    talk = conversation(np.random.default_rng(speakers), bundled(), speakers, 20.0)

    parts = labelled(talk, network)

    words = [(word, str(part.speaker)) for part in parts for word in part.words or ()]
    assert confusion(talk.speakers, [who for _, who in words], [word.end - word.start for word, _ in words]) < 0.03
    assert {part.speaker for part in parts} == set("ABC"[:speakers])
    assert parts[0].speaker == "A"


@requirements.weights
@pytest.mark.parametrize("piece", [320, 77_777])
def test_labels_are_the_same_each_time_and_for_any_pieces(network, piece):
    talk = conversation(np.random.default_rng(5), bundled(), 3, None)

    assert labelled(talk, network, piece) == labelled(talk, VoiceNetwork())


def test_confusion_is_the_time_given_to_another_speaker():
    assert confusion("xxyy", "BBAA", [1, 2, 3, 4]) == 0
    assert confusion("xxyy", "AAAB", [1, 2, 3, 4]) == pytest.approx(0.3)
    assert confusion("xxyy", "AAAA", [1, 2, 3, 4]) == pytest.approx(0.3)
    assert confusion("xxxx", "ABCA", [1, 2, 3, 4]) == pytest.approx(0.5)


def test_bench_without_weights_says_so(monkeypatch):
    monkeypatch.setattr(bench, "weights_file", lambda: None)

    assert bench.measure(quick=True) == {"weights": False}
