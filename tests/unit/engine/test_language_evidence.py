"""Which language is spoken: evidence is added up until it is sure, and doubted only with a reason."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, Lane
from transcriber.engine.language_detection import transcribe_job
from transcriber.engine.language_evidence import (
    CHANGE_MARGIN,
    KEPT,
    MOST_S,
    WHOLE_S,
    LanguageEvidence,
    LanguageProbabilities,
)
from transcriber.engine.prompt import SpeakerHistory, SpeakerPrompt
from transcriber.engine.transcript import Transcript
from transcriber.errors import EngineError

GERMAN, ENGLISH = {"de": 0.9, "en": 0.05}, {"en": 0.97, "de": 0.01}
UNSURE = {"th": 0.4, "en": 0.3, "de": 0.2}
SURE = LanguageEvidence("de", sure=True)


def after(*heard, speech_s=WHOLE_S, start=None):
    known = start or LanguageEvidence()
    for odds in heard:
        known = known.with_window(odds, speech_s)
    return known


def test_one_window_that_is_clear_is_enough_if_it_is_long():
    assert after(ENGLISH) == LanguageEvidence("en", sure=True)
    assert after(ENGLISH, speech_s=2.0)[:2] == ("en", False)


def test_the_evidence_of_short_windows_adds_up():
    assert after(ENGLISH, ENGLISH, speech_s=2.0) == LanguageEvidence("en", sure=True)


def test_a_window_that_is_mistranscribed_is_made_good_by_the_others():
    first = after(UNSURE)

    assert first[:2] == ("th", False)
    assert after(GERMAN, start=first)[:2] == ("de", False)
    assert after(GERMAN, GERMAN, start=first) == SURE


def test_a_cough_says_nothing():
    assert after(ENGLISH, speech_s=0.9) == LanguageEvidence()
    assert SURE.with_doubtful_window(ENGLISH, 0.9) == SURE


def test_what_never_becomes_sure_is_taken_for_it_in_the_end():
    windows = round(MOST_S / WHOLE_S)
    doubtful = {"la": 0.3, "ru": 0.31}

    assert not after(*[doubtful] * (windows - 1)).sure
    assert after(*[doubtful] * windows) == LanguageEvidence("ru", sure=True)


def test_of_two_that_are_as_likely_it_is_always_the_same_one():
    assert after({"ru": 0.4, "pl": 0.4}).language == after({"pl": 0.4, "ru": 0.4}).language == "pl"


def test_another_language_takes_over_only_when_it_is_far_ahead():
    doubted = SURE.with_doubtful_window({"de": 0.2, "nl": 0.7}, WHOLE_S)

    assert doubted.language == "de"
    assert dict(doubted.scores)["nl"] < CHANGE_MARGIN
    assert doubted.with_doubtful_window({"de": 0.2, "nl": 0.7}, WHOLE_S).with_doubtful_window(
        {"de": 0.1, "nl": 0.7}, WHOLE_S
    ) == LanguageEvidence("nl", sure=True)
    assert SURE.with_doubtful_window(ENGLISH, WHOLE_S) == LanguageEvidence("en", sure=True)


def test_likely_text_speaks_for_the_language_that_is_known():
    doubted = SURE.with_doubtful_window({"de": 0.2, "nl": 0.7}, WHOLE_S)

    assert dict(doubted.with_likely_window().scores)["nl"] == pytest.approx(dict(doubted.scores)["nl"] / 2, abs=0.001)
    assert doubted.with_likely_window().with_likely_window().with_likely_window().with_likely_window().scores == ()
    assert doubted.with_doubtful_window(GERMAN, WHOLE_S).scores == ()


ODDS = st.dictionaries(st.sampled_from(["en", "de", "fr", *(f"x{n}" for n in range(30))]), st.floats(0, 1), max_size=40)


@given(st.lists(st.tuples(st.booleans(), ODDS, st.floats(0, 30)), max_size=30))
def test_whatever_is_transcribed_the_state_stays_small_and_survives_json(windows):
    known = LanguageEvidence()
    for doubt, odds, speech_s in windows:
        if not known.sure:
            known = known.with_window(odds, speech_s)
        else:
            known = known.with_doubtful_window(odds, speech_s) if doubt else known.with_likely_window()
        stored = json.loads(json.dumps(known._asdict()))
        assert LanguageEvidence(**stored | {"scores": tuple(map(tuple, stored["scores"]))}) == known
        assert len(known.scores) <= KEPT
        assert known.language or not known.sure
        assert known.speech_s < MOST_S


# With a model.


class Bilingual:
    """Says how likely German is; text in the wrong language is unlikely."""

    name, tight, translates = "bilingual", False, False

    def __init__(self, *german, text="gale", doubt=None):
        self.german, self.text, self.doubt = list(german), text, doubt
        self.detected_s: list[float] = []
        self.asked: list[str | None] = []

    def supports(self, language):
        return language in {"en", "de"}

    def close(self):
        pass

    def detect(self, samples, should_abort):
        self.detected_s.append(len(samples) / WHISPER_SAMPLE_RATE)
        return LanguageProbabilities({"de": self.german[0], "en": 1 - self.german[0]}, 0.5)

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        self.asked.append(language)
        self.prompt = prompt
        right = language == ("de" if self.german[0] > 0.5 else "en")
        return Transcript(self.text, (), language, -0.2 if right else -0.9, None, 1.0, self.doubt)


def job(history, language=None, lead_s=7.5, **fields):
    samples = np.zeros(round((lead_s + 5.0) * WHISPER_SAMPLE_RATE), np.float32)
    return Job("s", samples, language, lambda *_: None, lead_s=lead_s, history=history, **fields)


def hear(model, history, **fields):
    asked = job(history, **fields)
    answer = transcribe_job(model, asked, lambda: False)
    asked.update_history(answer)
    model.german[1:] and model.german.pop(0)
    return answer


def test_the_language_is_of_the_window_alone_until_it_is_sure():
    model, history = Bilingual(0.6, 0.8, 0.97, 0.97), SpeakerHistory()

    answers = [hear(model, history) for _ in range(4)]

    assert [answer.spoken.sure for answer in answers] == [False, False, True, True]
    assert model.detected_s == [5.0] * 3
    assert answers[0].processing_s == 1.5
    assert answers[3].processing_s == 1.0
    assert history.spoken == LanguageEvidence("de", sure=True)


def test_what_the_publisher_says_is_not_asked_for():
    model = Bilingual(0.99)

    answer = hear(model, SpeakerHistory(), language="en")

    assert (model.asked, model.detected_s, answer.spoken) == (["en"], [], None)


@pytest.mark.parametrize(
    ("text", "doubt", "fields"),
    [("", None, {}), ("gale " * 20, "repetition", {}), ("gale", None, {"speech_prob": 0.5})],
)
def test_noise_and_text_that_is_not_believed_are_no_evidence(text, doubt, fields):
    model, history = Bilingual(0.99, text=text, doubt=doubt), SpeakerHistory()

    hear(model, history, **fields)

    assert history.spoken == LanguageEvidence()


def test_speech_that_is_hard_to_understand_has_a_language_if_a_detector_found_it():
    model, heard, unheard = Bilingual(0.6, doubt="log_probability"), SpeakerHistory(), SpeakerHistory()

    hear(model, heard, speech_s=4.0, speech_prob=1.0)
    hear(model, unheard)

    assert (heard.spoken.language, unheard.spoken.language) == ("de", None)


def test_a_guess_that_makes_no_text_gives_way_to_what_is_likelier():
    model, history = (
        Bilingual(0.9, text="gale " * 20, doubt="repetition"),
        SpeakerHistory(spoken=after({"en": 0.9, "de": 0.06})),
    )

    hear(model, history)

    assert model.asked == ["en"]
    assert dict(history.spoken.scores)["de"] > dict(history.spoken.scores)["en"] - 1


def test_unlikely_text_in_a_language_that_is_sure_is_asked_again_in_the_likelier_one():
    model, history = Bilingual(0.01), SpeakerHistory(language="de", spoken=SURE)

    answer = hear(model, history)

    assert model.asked == ["de", "en"]
    assert (answer.language, answer.avg_logprob, answer.processing_s) == ("en", -0.2, 2.5)
    assert history.spoken == LanguageEvidence("en", sure=True)
    assert answer.lead_s == 0.5  # not together with what was said in German


@pytest.mark.parametrize(("speech_prob", "known"), [(1.0, "en"), (None, "de")])
def test_speech_that_is_hard_to_understand_may_change_the_language_if_a_detector_found_it(speech_prob, known):
    model, history = Bilingual(0.01, doubt="log_probability"), SpeakerHistory(spoken=SURE)

    hear(model, history, speech_s=5.0, speech_prob=speech_prob)

    assert history.spoken.language == known


def test_text_that_is_no_likelier_in_another_language_leaves_all_as_it_was():
    model, history = Bilingual(0.01), SpeakerHistory(spoken=SURE)
    model.transcribe = lambda _, language, *__, **___: Transcript("x", (), language, -0.9, None, 1.0)  # type: ignore[method-assign]

    answer = hear(model, history)

    assert (answer.language, history.spoken) == ("de", SURE)


def test_while_others_wait_and_for_partials_what_is_known_is_not_doubted():
    model = Bilingual(0.01)

    pressed = transcribe_job(model, job(SpeakerHistory(spoken=SURE)), lambda: False, under_load=True)
    partial = transcribe_job(model, job(SpeakerHistory(spoken=SURE), lane=Lane.PARTIAL), lambda: False)

    assert (pressed.spoken, partial.spoken, model.detected_s) == (SURE, SURE, [])


def test_nothing_begins_that_is_to_be_given_up():
    model = Bilingual(0.9)

    with pytest.raises(EngineError, match="aborted"):
        transcribe_job(model, job(SpeakerHistory()), lambda: True)
    assert (model.detected_s, model.asked) == ([], [])


def test_what_was_said_in_another_language_is_no_prompt():
    model, history, context = Bilingual(0.99, 0.01), SpeakerHistory(), SpeakerPrompt()

    hear(model, history, prompt=context, lead_s=0.0)
    before = context.text
    hear(model, history, prompt=context, lead_s=0.0)

    assert (before, model.prompt, context.text) == ("gale", "", "gale")
