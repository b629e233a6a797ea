"""How much left context a window gets, and when its text is doubted or held back."""

import math
from dataclasses import replace

import numpy as np
import pytest

from transcriber.audio.window import OVERLAP_S
from transcriber.engine.hallucination import letters
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, Lane
from transcriber.engine.prompt import SpeakerHistory
from transcriber.engine.transcript import Phrase, Transcript, Word
from transcriber.engine.window_text import transcribe_window

LEAD_S, WINDOW_S = 7.5, 5.0


class Listening:
    """Notes the seconds it was given."""

    name, tight, translates = "listening", True, False

    def __init__(self, doubt=None):
        self.doubt = doubt
        self.heard_s: list[float] = []
        self.greedy: list[bool] = []

    def supports(self, language):
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        self.heard_s.append(len(samples) / WHISPER_SAMPLE_RATE)
        self.greedy.append(greedy)
        return Transcript("gale", (), language or "en", -0.1, None, 0.1, doubt=self.doubt, wide=wide)


def job(history=None, language="en", lead_s=LEAD_S, speech_s=None):
    samples = np.zeros(round((lead_s + WINDOW_S) * WHISPER_SAMPLE_RATE), np.float32)
    return Job("s", samples, language, lambda *_: None, lead_s=lead_s, history=history, speech_s=speech_s)


def heard(asked, **options):
    model = Listening()
    answer = transcribe_window(model, asked, lambda: False, **options)
    assert model.heard_s == [pytest.approx(WINDOW_S + answer.lead_s)]
    return answer.lead_s


def test_all_of_the_left_context_is_transcribed_if_nothing_speaks_against_it():
    assert heard(job()) == LEAD_S
    assert heard(job(SpeakerHistory())) == LEAD_S
    assert job().duration_s == WINDOW_S


def test_a_language_that_was_detected_stays_until_another_one_is_named():
    """Whichever windows wait meanwhile: so another daemon transcribes the same."""
    history, asked = SpeakerHistory(), job(None, None)
    asked.history = history
    asked.update_history(transcribe_window(Listening(), job(history, "de"), lambda: False))

    assert transcribe_window(Listening(), asked, lambda: False).language == "de"


@pytest.mark.parametrize("language", ["en", None])
def test_of_what_was_said_in_the_same_language_too(language):
    history = SpeakerHistory()
    history.record(Transcript("gale", (), "en", -0.1, None, 0.1))

    assert heard(job(history, language)) == LEAD_S


def test_little_left_context_is_used_of_what_was_suppressed_or_lost_or_is_in_another_language():
    doubted, failed, german = SpeakerHistory(), SpeakerHistory(), SpeakerHistory()
    doubted.record(Transcript("", (), "en", -0.1, None, 0.1, suppressed="repetition"))
    failed.record(None)
    german.record(Transcript("Sturm", (), "de", -0.1, None, 0.1))

    assert [heard(job(history)) for history in (doubted, failed, german)] == [OVERLAP_S] * 3


def test_a_silence_leaves_the_language_that_was_spoken():
    history = SpeakerHistory(language="de")
    history.record(Transcript("", (), "en", None, None, 0.1))

    assert not history.allows_left_context("en")
    assert history.allows_left_context("de")


def test_while_others_wait_a_window_has_little_left_context():
    assert heard(job(), skip_lead=True) == OVERLAP_S
    assert heard(job(lead_s=0.2), skip_lead=True) == 0.2
    assert heard(job(), under_load=True) == LEAD_S


def test_a_window_transcribed_ahead_is_transcribed_as_its_final_will_be():
    ahead, model = job(), Listening()
    ahead.lane, ahead.speculative = Lane.PARTIAL, True

    assert heard(ahead) == LEAD_S
    transcribe_window(model, ahead, lambda: False)
    assert model.greedy == [False]


@pytest.mark.parametrize(("duration_s", "lead_s"), [(1.0, 6.68), (5.0, 2.68), (10.0, OVERLAP_S)])
def test_a_partial_gets_as_much_left_context_as_costs_no_more_than_without(duration_s, lead_s):
    samples = np.zeros(round((LEAD_S + duration_s) * WHISPER_SAMPLE_RATE), np.float32)
    model = Listening()

    answer = transcribe_window(
        model, Job("s", samples, "en", lambda *_: None, lead_s=LEAD_S, lane=Lane.PARTIAL), lambda: False
    )

    assert answer.lead_s == pytest.approx(lead_s)
    assert model.heard_s == [pytest.approx(duration_s + lead_s)]


def test_only_a_partial_is_decoded_with_one_beam_whatever_is_set():
    model, partial = Listening(), job()
    partial.lane = Lane.PARTIAL

    transcribe_window(model, partial, lambda: False)
    transcribe_window(model, job(), lambda: False)

    assert model.greedy == [True, False]


def test_both_answers_are_to_the_same_samples():
    model = Listening(doubt="repetition")

    answer = transcribe_window(model, job(), lambda: False)

    assert model.heard_s == [LEAD_S + WINDOW_S] * 2
    assert (answer.suppressed, answer.lead_s) == ("repetition", LEAD_S)


def test_what_was_said_before_the_window_counts_as_time_to_say_it():
    model = Listening()
    model.transcribe = lambda *_, **__: Transcript("g" * 400, (), "en", -0.1, None, 0.1)  # type: ignore[method-assign]

    assert transcribe_window(model, job(speech_s=0.1), lambda: False).suppressed is None
    assert transcribe_window(model, job(lead_s=0.0, speech_s=0.1), lambda: False).suppressed == "rate"


def saying(before, new, *, before_logprob=-0.1, new_logprob=-0.1, doubt=None):
    """A model that says so before the window and in it, evenly, however much left context it gets; both are lists of words."""

    def transcribe(samples, *_, **__):
        lead_s = len(samples) / WHISPER_SAMPLE_RATE - WINDOW_S
        words = [
            Word(word, begin_s + n * length_s / len(some), begin_s + (n + 1) * length_s / len(some), math.exp(logprob))
            for some, begin_s, length_s, logprob in (
                (before, 0.0, lead_s, before_logprob),
                (new, lead_s, WINDOW_S, new_logprob),
            )
            for n, word in enumerate(some)
        ]
        avg_logprob = (len(before) * before_logprob + len(new) * new_logprob) / len(words)
        text = " ".join(word.word for word in words)
        return Transcript(text, tuple(words), "en", avg_logprob, None, 0.1, doubt=doubt)

    model = Listening()
    model.transcribe = transcribe  # type: ignore[method-assign]
    return model


SURE = [f"word{n}" for n in range(20)]
BEATS = ["one", "two", "three"]


@pytest.mark.parametrize(
    ("new", "heard", "reason"),
    [
        ({"new": ["gale", "force", "nine"], "new_logprob": -0.7}, {"speech_prob": 0.5}, "no_speech"),
        ({"new": ["gale", "force", "nine"], "new_logprob": -0.7}, {"speech_prob": 1.0}, None),
        ({"new": ["gale", "force", "nine"], "new_logprob": -1.2}, {"speech_prob": 1.0}, None),
        ({"new": ["gale", "force", "nine"], "new_logprob": -1.2}, {}, "log_probability"),
        ({"new": ["gale", "force", "nine"], "new_logprob": -1.4}, {"speech_prob": 1.0}, "log_probability"),
        ({"new": ["Kowalczyk"], "new_logprob": -1.4}, {"speech_prob": 1.0}, None),  # one rare name
        ({"new": [f"gale{n:02}" for n in range(40)]}, {"speech_s": 0.5}, "rate"),
        ({"new": ["no,"] * 8, "doubt": "repetition"}, {"speech_s": 2.0}, None),
        ({"new": ["no,"] * 16, "doubt": "repetition"}, {"speech_s": 0.3}, "repetition"),
        # Four times in all, but not within the window: people count so, and a loop would continue.
        ({"before": SURE[:6] + BEATS * 2, "new": BEATS * 2, "doubt": "repetition"}, {"speech_s": 3.0}, None),
        (
            {"before": SURE[:6] + BEATS * 2, "new": BEATS * 2, "doubt": "repetition"},
            {},
            "repetition",
        ),  # no detector
        ({"before": SURE[:6] + BEATS * 2, "new": BEATS * 4, "doubt": "repetition"}, {"speech_s": 4.0}, "repetition"),
        ({"new": ["SUSUSUSUSUSUSUSUSUSU"], "doubt": "repetition"}, {"speech_s": 4.0}, "repetition"),
        ({"new": [], "new_logprob": 0.0}, {"speech_prob": 0.1, "speech_s": 0.1}, None),
    ],
)
def test_what_is_new_is_judged_by_itself_for_what_came_before_was_mostly_said_clearly(new, heard, reason):
    model = saying(**{"before": SURE} | new)

    assert transcribe_window(model, replace(job(), **heard), lambda: False).suppressed == reason


def test_an_answer_whose_new_words_are_unlikely_is_asked_for_again():
    asked = replace(job(), speech_prob=1.0)
    unlikely, likely = (saying(SURE, ["gale", "force", "nine"], new_logprob=logprob) for logprob in (-1.2, -0.1))
    model = Listening()
    model.transcribe = lambda *_, wide=False, **__: (likely if wide else unlikely).transcribe(asked.samples)  # type: ignore[method-assign]

    answer = transcribe_window(model, asked, lambda: False)

    assert (answer.redone, answer.suppressed, answer.words) == (True, None, likely.transcribe(asked.samples).words)


class Loops(Listening):
    """Finds no end of what begins more than some seconds before the window; then it says "gale", or nothing."""

    def __init__(self, *, most_lead_s=-1.0, text="gale"):
        super().__init__()
        self.most_lead_s, self.text = most_lead_s, text

    def transcribe(self, samples, *args, **options):
        answer = super().transcribe(samples, *args, **options)
        if self.heard_s[-1] - WINDOW_S <= self.most_lead_s:
            return answer
        return replace(answer, text=self.text, doubt="token_cap" if self.text else "gave_up")


SHORTER_S = LEAD_S / 3


@pytest.mark.parametrize("text", ["gale gale gale", ""], ids=["loop", "gives up"])
def test_what_would_be_held_back_is_transcribed_with_less_left_context(text):
    model = Loops(most_lead_s=3.0, text=text)

    answer = transcribe_window(model, replace(job(), speech_prob=1.0), lambda: False)

    assert model.heard_s == [pytest.approx(lead_s + WINDOW_S) for lead_s in (LEAD_S, LEAD_S, SHORTER_S)]
    assert (answer.text, answer.suppressed, answer.redone) == ("gale", None, True)
    assert [answer.lead_s, answer.processing_s] == pytest.approx([SHORTER_S, 0.3])


def test_if_that_does_not_help_it_is_held_back():
    model = Loops()

    answer = transcribe_window(model, replace(job(), speech_prob=1.0), lambda: False)

    assert len(model.heard_s) == 3
    assert (answer.text, answer.suppressed) == ("", "token_cap")


@pytest.mark.parametrize("speech_prob", [None, 0.8], ids=["without a detector", "hardly speech"])
def test_what_may_be_no_speech_is_not_transcribed_until_it_says_something(speech_prob):
    model = Loops(most_lead_s=3.0)

    assert transcribe_window(model, replace(job(), speech_prob=speech_prob), lambda: False).suppressed == "token_cap"
    assert len(model.heard_s) == 2


@pytest.mark.parametrize("lead_s", [0.0, OVERLAP_S])
def test_without_left_context_there_is_no_third_time(lead_s):
    model = Loops()

    assert transcribe_window(model, replace(job(lead_s=lead_s), speech_prob=1.0), lambda: False).suppressed
    assert len(model.heard_s) == 2


@pytest.mark.parametrize("way", ["under load", "partial"])
def test_while_others_wait_and_for_a_partial_whisper_runs_once(way):
    model, asked = Loops(), replace(job(), speech_prob=1.0)
    if way == "partial":
        asked.lane, model.most_lead_s = Lane.PARTIAL, 0.0

    assert transcribe_window(model, asked, lambda: False, under_load=way == "under load").suppressed == "token_cap"
    assert len(model.heard_s) == 1


def looping(new, *, lead_s=LEAD_S):
    """A model that says ``new`` in the window, and then all of it again in no time; at a wide context not."""
    begin_s, loop_s = lead_s, lead_s + WINDOW_S - 0.4
    words = [Word(word, begin_s, loop_s, 0.9) for word in new]
    again = [Word(word, loop_s, loop_s + 0.4, 0.9) for word in new]
    count = letters(" ".join(new))
    phrases = (Phrase(begin_s, loop_s, count), Phrase(loop_s, loop_s + 0.4, count))
    once = Transcript(" ".join(new), tuple(words), "en", -0.1, None, 0.1, phrases=phrases[:1])
    twice = replace(once, text=f"{once.text} {once.text}", words=(*words, *again), phrases=phrases)
    return once, twice


GALE = ["a", "severe", "gale", "warning", "has", "been", "issued", "for", "all", "areas"]


def test_an_answer_whose_last_phrase_nobody_had_the_time_to_say_is_asked_for_again():
    once, twice = looping(GALE)
    model = Listening()
    model.transcribe = lambda *_, wide=False, **__: once if wide else twice  # type: ignore[method-assign]

    answer = transcribe_window(model, job(speech_s=4.0), lambda: False)

    assert (answer.redone, answer.text, answer.suppressed) == (True, once.text, None)


@pytest.mark.parametrize("lead_s", [0.0, LEAD_S])
def test_a_last_phrase_that_nobody_had_the_time_to_say_is_left_out(lead_s):
    once, twice = looping(GALE, lead_s=lead_s)
    model = Listening()
    model.transcribe = lambda *_, **__: twice  # type: ignore[method-assign]

    answer = transcribe_window(model, job(lead_s=lead_s, speech_s=4.0), lambda: False)

    assert (answer.text, answer.words, answer.phrases) == (once.text, once.words, once.phrases)
    assert answer.suppressed is None


def test_a_window_of_which_nothing_else_remains_is_suppressed():
    _, twice = looping(GALE)
    before = replace(
        twice,
        words=tuple(replace(word, start_s=0, end_s=5) for word in twice.words[: len(GALE)]) + twice.words[len(GALE) :],
    )
    model = Listening()
    model.transcribe = lambda *_, **__: before  # type: ignore[method-assign]

    answer = transcribe_window(model, job(speech_s=4.0), lambda: False)

    assert (answer.text, answer.suppressed) == ("", "rate")


def test_an_empty_answer_is_no_better_than_one_without_its_hurried_end():
    once, twice = looping(GALE)
    empty = replace(once, text="", words=(), phrases=())
    model = Listening()
    model.transcribe = lambda *_, wide=False, **__: empty if wide else twice  # type: ignore[method-assign]

    answer = transcribe_window(model, job(speech_s=4.0), lambda: False)

    assert (answer.redone, answer.text, answer.suppressed) == (True, once.text, None)


def test_a_window_that_says_nothing_new_is_not_suppressed_for_its_left_context():
    _, twice = looping(GALE)
    words = tuple(replace(word, start_s=word.start_s / 2, end_s=word.end_s / 2) for word in twice.words)
    phrases = tuple(one._replace(start_s=one.start_s / 2, end_s=one.end_s / 2) for one in twice.phrases)
    model = Listening()
    model.transcribe = lambda *_, **__: replace(twice, words=words, phrases=phrases)  # type: ignore[method-assign]

    answer = transcribe_window(model, job(speech_s=4.0), lambda: False)

    assert (answer.without_lead().words, answer.suppressed) == ((), None)


def test_all_hurried_phrases_at_the_end_are_left_out_and_the_text_before_stays_as_it_was_written():
    words = (Word("我在", 0.0, 1.0, 0.9), Word("New", 1.0, 1.5, 0.9), Word("York", 1.5, 2.0, 0.9))
    again = tuple(Word(word.word, at_s, at_s, 0.01) for at_s in (2.05, 2.15) for word in words)
    phrases = (Phrase(0.0, 2.0, 16), Phrase(2.0, 2.1, 40), Phrase(2.1, 2.2, 40))
    said = Transcript("我在 New York" * 3, (*words, *again), "zh", -2.0, None, 0.1, phrases=phrases)

    kept = said.without_hurried_end()

    assert (kept.text, kept.words, kept.phrases, kept.trimmed) == ("我在 New York", words, phrases[:1], True)
    assert kept.avg_logprob == pytest.approx(math.log(0.9))


@pytest.mark.parametrize(
    ("text", "duration_s"), [("And what the...", 0.12), ("Then let us go up.", 0.44), ("Stop.", 0.0)]
)
def test_a_phrase_that_is_short_or_cut_off_stays(text, duration_s):
    words = (Word("Well.", 0.0, 1.0, 0.9), Word(text, 1.0, 1.0 + duration_s, 0.9))
    phrases = (Phrase(0.0, 1.0, 5), Phrase(1.0, 1.0 + duration_s, len(text)))
    said = Transcript(f"Well. {text}", words, "en", -0.1, None, 0.1, phrases=phrases)

    assert not said.ends_hurried
    assert said.without_hurried_end() is said
