from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.holes import (
    FADE,
    FILLINGS,
    LENGTHS_MS,
    PAYLOAD,
    STRETCH_WORDS,
    Ears,
    Hole,
    errors_of,
    figures,
    filled,
    lost_payloads,
    said_by_stretch,
    single_holes,
)
from bench.lib.recordings import BUNDLED, Recording, read_folder
from bench.lib.words.normal import word_errors
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.engine.hallucination import Doubt
from transcriber.engine.transcript import Transcript
from transcriber.testing.wer import words

SECOND = 16_000
BRIDGES = [name for name, filling in FILLINGS.items() if filling]


@dataclass
class Parrot:
    """Says ``text`` to each window, with ``doubt`` where it may not look at a wide context; keeps what it was asked."""

    text: str = "ahoy"
    doubt: Doubt | None = None
    tight: bool = True
    asked: list[tuple[int, bool]] = field(default_factory=list)

    def supports(self, language):
        return language == "en"

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        self.asked.append((len(samples), wide))
        return Transcript(
            self.text, None, language, -0.1 if wide else -0.2, None, 0.01, None if wide else self.doubt, wide=wide
        )


def ears(model):
    return Ears(model, Silero(), load_settings(), words, "en")


@st.composite
def broken(draw):
    """Samples, and holes in them that do not touch."""
    count = draw(st.integers(2, 2000))
    edges = sorted(draw(st.sets(st.integers(0, count), max_size=12)))
    return count, [Hole(*pair) for pair in zip(edges[::2], edges[1::2], strict=False)]


@pytest.mark.parametrize("name", BRIDGES)
@given(broken(), st.integers(0, 2**32 - 1))
def test_a_filling_knows_nothing_of_what_was_lost_and_leaves_the_rest(name, recording, seed):
    count, holes = recording
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(count).astype(np.float32)
    lost, near = np.zeros(count, bool), np.zeros(count, bool)
    for start, end in holes:
        lost[start:end] = True
        near[max(0, start - FADE) : end + FADE] = True
    others = np.where(lost, rng.standard_normal(count), samples).astype(np.float32)

    out = filled(samples, holes, FILLINGS[name])

    assert np.array_equal(out, filled(others, holes, FILLINGS[name]))
    assert np.isfinite(out).all()
    kept = ~near if name == "faded" else ~lost
    assert np.array_equal(out[kept], samples[kept])
    if name in {"zeros", "faded"}:
        assert not out[lost].any()


@given(st.integers(0, 50), st.integers(0, 60 * SECOND))
def test_single_holes_begin_at_the_same_places_whatever_their_length(number, samples):
    by_length = [single_holes(ms)(number, samples) for ms in LENGTHS_MS]

    assert len({tuple(hole.start for hole in holes) for holes in by_length}) == 1
    assert samples // (2 * SECOND) - len(by_length[0]) in {0, 1}
    assert all(hole.start // (2 * SECOND) == place for place, hole in enumerate(by_length[-1]))
    for ms, holes in zip(LENGTHS_MS, by_length, strict=True):
        edges = [0, *(edge for hole in holes for edge in hole), samples]
        assert edges == sorted(edges)
        assert all(hole.end - hole.start == ms * SECOND // 1000 for hole in holes)


@given(st.integers(0, 50), st.integers(0, 60 * SECOND), st.sampled_from([0.005, 0.1, 0.5]), st.sampled_from([1.0, 3.0]))
def test_lost_payloads_are_whole_ones_between_the_first_and_the_last(number, samples, rate, burst):
    holes = lost_payloads(rate, burst)(number, samples)

    assert all(start % PAYLOAD == end % PAYLOAD == 0 for start, end in holes)
    edges = [PAYLOAD - 1, *(edge for hole in holes for edge in hole), samples]
    assert edges == sorted(set(edges)) or not holes


@pytest.mark.parametrize(("burst", "mean"), [(1.0, 1 / 0.95), (3.0, 3.0)])
def test_payloads_are_lost_as_often_and_in_bursts_as_long_as_asked(burst, mean):
    holes = lost_payloads(0.05, burst)(0, 100_000 * PAYLOAD)

    lost = sum(hole.end - hole.start for hole in holes) / PAYLOAD
    assert lost / 100_000 == pytest.approx(0.05, rel=0.1)
    assert lost / len(holes) == pytest.approx(mean, rel=0.1)


texts = st.lists(st.sampled_from(["gale", "warning", "north"]), max_size=3 * STRETCH_WORDS).map(" ".join)


@given(texts, texts)
def test_the_errors_of_all_stretches_are_those_of_the_text(said, heard):
    errors = errors_of(words, said or "ahoy", heard)

    assert errors.sum() == word_errors(words, said or "ahoy", heard)
    assert len(errors) == len(said_by_stretch(words, said or "ahoy"))


def test_an_error_belongs_to_the_stretch_where_it_was_said():
    said = [f"word{number}" for number in range(2 * STRETCH_WORDS)]

    errors = errors_of(words, " ".join(said), " ".join([*said[:STRETCH_WORDS], "and", *said[STRETCH_WORDS + 3 :]]))

    assert errors.tolist() == [0, 3]


def test_a_hole_that_is_bridged_makes_no_window_and_one_that_is_not_makes_one():
    recordings = read_folder(BUNDLED)[:2]
    holes = [single_holes(20)(number, len(one.samples)) for number, one in enumerate(recordings)]
    none: list[list[Hole]] = [[] for _ in recordings]

    whole, bridged, closed = (
        ears(Parrot()).hear(recordings, gone, filling)
        for gone, filling in ((none, None), (holes, FILLINGS["zeros"]), (holes, FILLINGS["closed"]))
    )

    count = sum(map(len, holes))
    assert (whole.holes, bridged.holes, closed.holes) == (0, count, count)
    assert abs(bridged.windows - whole.windows) <= 1
    assert closed.windows + closed.silences >= count
    assert closed.windows > whole.windows


def test_words_in_a_silence_are_counted():
    one = read_folder(BUNDLED)[0]
    quiet = Recording(one.name, one.text, np.zeros_like(one.samples), one.sentences, one.words)

    heard = ears(Parrot()).hear([quiet], [[]], None)

    assert heard.windows == 0
    assert heard.silent_words_s == pytest.approx(sum(word.end_s - word.start_s for word in one.words or ()), abs=0.02)
    assert heard.errors.sum() == len(words(one.text))


def test_a_doubtful_answer_is_asked_for_again_and_held_back_where_that_is_of_no_use():
    one = read_folder(BUNDLED)[0]
    helped, helpless = Parrot(doubt="repetition"), Parrot(doubt="repetition", tight=False)

    first, second = (ears(model).hear([one], [[]], None) for model in (helped, helpless))

    assert first.suppressed == 0
    assert [wide for _, wide in helped.asked] == [False, True] * first.windows
    assert second.suppressed == second.windows == len(helpless.asked)


def test_figures_are_in_percent_of_the_words_and_points_beside_the_others():
    one = read_folder(BUNDLED)[0]
    heard = ears(Parrot()).hear([one], [[]], None)
    better = heard._replace(errors=heard.errors - 1)
    said = said_by_stretch(words, one.text)

    found = figures(heard, said, {"no_loss": better})

    assert found["errors"] == heard.errors.sum()
    assert found["wer_percent"] == pytest.approx(100 * heard.errors.sum() / said.sum(), abs=0.01)
    assert found["minus_no_loss_points"] == pytest.approx(100 * len(said) / said.sum(), abs=0.01)
    low, high = found["minus_no_loss_interval_95"]
    assert low <= found["minus_no_loss_points"] <= high
