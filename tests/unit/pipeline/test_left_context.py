"""Windows transcribed with left context: each word is written once, whatever the two passes make of it."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings, strategies as st

from transcriber.engine.transcript import Transcript, Word, text_of
from transcriber.pipeline.left_context import PAUSE_S, LeftContext, TranscribedRange, Written
from transcriber.schema.checkpoint import WrittenState

REACH_S, HOLD_S = 5.0, 0.5
WORD_S = 0.3


def answer(words, begin_s, language="en", **about):
    """Of what whisper transcribed from ``begin_s`` on: ``words`` are (word, time of its middle in the session)."""
    timed = tuple(Word(word, at_s - WORD_S / 2 - begin_s, at_s + WORD_S / 2 - begin_s, 0.9) for word, at_s in words)
    return Transcript(text_of(timed, language), timed, language, -0.1, None, 0.1, **about)


def words_of(transcript):
    return transcript.words


def two_windows(first, second, *, cut_s=5.0, end_s=10.0, lead_s=5.0, hold_s=HOLD_S, language="en", between=None):
    """What they write; times are those of the session."""
    context = LeftContext(REACH_S, hold_s)
    one = context.close_window(answer(first, 0.0, language), TranscribedRange(0.0, cut_s, goes_on=True))
    if between:
        between(context)
    two = context.close_window(answer(second, cut_s - lead_s, language), TranscribedRange(cut_s, end_s, lead_s))
    return one.text, two.text


@pytest.mark.parametrize(
    ("first", "second", "written"),
    [
        # The last word is held back, with its punctuation.
        ([("the", 4.0), ("answer", 4.3), ("is", 4.8)], [("the", 4.0), ("answer", 4.3), ("is", 4.8), ("yes", 5.3)], ("the answer", "is yes")),
        ([("the", 4.0), ("answer.", 4.8)], [("The", 4.0), ("answer", 4.8), ("is", 5.2)], ("the", "answer is")),
        # Half a word that is near the edge is written as it is transcribed when it is whole.
        ([("an", 4.2), ("explo", 4.85)], [("an", 4.2), ("explosion", 4.95), ("that", 5.4)], ("an", "explosion that")),
        # What is written stays, and is found though it is transcribed in another way.
        ([("big", 3.5), ("kettle", 4.2)], [("big", 3.5), ("cattle", 4.3), ("went", 5.2)], ("big kettle", "went")),
        ([("any", 3.5), ("thing", 4.0)], [("anything", 3.8), ("goes", 5.2)], ("any thing", "goes")),
        ([("anything", 3.8)], [("any", 3.5), ("thing", 4.0), ("goes", 5.2)], ("anything", "goes")),
        # Context dropped by the second pass: all of it, its beginning, its middle, its end.
        ([("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)], [("e", 5.3), ("f", 6.0)], ("a b c d", "e f")),
        ([("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)], [("c", 3.0), ("d", 4.0), ("e", 5.3)], ("a b c d", "e")),
        ([("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)], [("a", 1.0), ("d", 4.0), ("e", 5.3)], ("a b c d", "e")),
        ([("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)], [("a", 1.0), ("b", 2.0), ("e", 5.3)], ("a b c d", "e")),
        # Words that only the second pass transcribes: long before the cut they come too late, near it they do not.
        ([("a", 1.0), ("d", 4.0)], [("a", 1.0), ("b", 2.0), ("d", 4.0), ("e", 5.3)], ("a d", "e")),
        ([("a", 1.0), ("d", 4.0)], [("a", 1.0), ("d", 4.0), ("x", 4.8), ("e", 5.3)], ("a d", "x e")),
        # Repeated words.
        ([("five", 3.0), ("five", 3.5), ("five", 4.0)], [("five", 3.0), ("five", 3.5), ("five", 4.0), ("five", 5.2)], ("five five five", "five")),
        # Times that slip.
        ([("a", 3.0), ("b", 3.5), ("c", 4.0)], [("a", 3.4), ("b", 4.1), ("c", 4.9), ("d", 5.4)], ("a b c", "d")),
        ([("a", 3.0), ("b", 3.5), ("c", 4.0)], [("a", 2.5), ("b", 2.9), ("c", 3.4), ("d", 4.7)], ("a b c", "d")),
        # A number that is written in another way.
        ([("number", 3.6), ("two", 3.9)], [("number", 3.9), ("2", 4.2), ("please", 5.4)], ("number two", "please")),
        ([("number", 3.6), ("2", 3.9)], [("number", 3.9), ("two", 4.2), ("please", 5.4)], ("number 2", "please")),
        ([("one", 3.0), ("hundred", 3.4), ("and", 3.7), ("sixty", 4.1)], [("160", 3.6), ("steps", 5.2)], ("one hundred and sixty", "steps")),
        # The second pass transcribes nothing: what the first one was not sure of is all there is.
        ([("the", 4.0), ("end", 4.8)], [], ("the", "end")),
        ([], [("hello", 5.5)], ("", "hello")),
        ([], [("hello", 2.0), ("there", 5.5)], ("", "hello there")),
        ([], [], ("", "")),
    ],
)  # fmt: skip
def test_each_word_is_written_once(first, second, written):
    assert two_windows(first, second) == written


@pytest.mark.parametrize(
    ("first", "second", "written"),
    [
        # The same characters, put together in another way.
        ([("人人", 3.6), ("生而", 4.2)], [("人", 3.45), ("人生", 3.75), ("而自", 4.3), ("由", 5.2)], ("人人生而", "自由")),
        ([("港湾", 4.0), ("。", 4.3)], [("港湾", 4.0), ("内", 5.2), ("。", 5.4)], ("港湾。", "内。")),
        ([("สวัสดี", 4.0)], [("สวัส", 3.9), ("ดี", 4.2), ("ครับ", 5.4)], ("สวัสดี", "ครับ")),
    ],
)  # fmt: skip
def test_languages_without_spaces(first, second, written):
    assert two_windows(first, second, language="zh") == written


def test_nothing_is_held_back_where_the_audio_does_not_continue():
    context = LeftContext(REACH_S, HOLD_S)

    transcript = context.close_window(answer([("the", 4.0), ("end.", 4.8)], 0.0), TranscribedRange(0.0, 5.0))

    assert transcript.text == "the end."
    assert context.before.held == ()


def test_nothing_is_held_back_where_a_pause_follows_the_last_word():
    context = LeftContext(REACH_S, HOLD_S)
    words = [("the", 4.0), ("end.", 4.55)]

    first = context.close_window(answer(words, 0.0), TranscribedRange(0.0, 5.0, goes_on=True, silence_s=PAUSE_S))
    second = context.close_window(answer([*words, ("Yes.", 5.6)], 0.0), TranscribedRange(5.0, 6.0, lead_s=5.0))

    assert (first.text, second.text) == ("the end.", "Yes.")


def test_words_are_held_back_after_a_silence_that_a_stop_may_make():
    context = LeftContext(REACH_S, HOLD_S)
    short = TranscribedRange(0.0, 5.0, goes_on=True, silence_s=PAUSE_S - 0.01)

    assert context.close_window(answer([("the", 4.0), ("end.", 4.7)], 0.0), short).text == "the"


@pytest.mark.parametrize(
    ("confidences", "published"),
    [
        ((0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), "we have lost our engine and"),
        ((0.9, 0.9, 0.9, 0.6, 0.5, 0.6, 0.5), "we have lost our"),  # for 1.5 s, one unsure word after the other
        ((0.9, 0.9, 0.9, 0.6, 0.5, 0.9, 0.5), "we have lost our engine and"),
        ((0.2, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9), "we have"),  # for 2.5 s, an unlikely word and all after it
        ((0.9, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9), "we have lost our engine and"),
    ],
)
def test_words_of_which_whisper_is_unsure_are_held_back_earlier(confidences, published):
    words = [("we", 1.0), ("have", 2.0), ("lost", 3.0), ("our", 3.3), ("engine", 3.8), ("and", 4.3), ("are", 4.8)]
    heard_again = [*words, ("drifting", 5.5)]
    context = LeftContext(REACH_S, HOLD_S, most_held_s=2.5)
    first = answer(words, 0.0)
    unsure = tuple(replace(word, confidence=one) for word, one in zip(first.words or (), confidences, strict=True))

    one = context.close_window(replace(first, words=unsure), TranscribedRange(0.0, 5.0, goes_on=True))
    held = context.before.held
    two = context.close_window(answer(heard_again, 0.0), TranscribedRange(5.0, 10.0, 5.0))

    assert one.text == published
    assert " ".join([one.text, *(word[0].strip() for word in held)]) == " ".join(word for word, _ in words)
    assert f"{one.text} {two.text}" == "we have lost our engine and are drifting"
    assert all(word.start_s >= -2.5 for word in two.words or ())


def test_where_speech_has_ended_or_nothing_is_held_back_unsure_words_are_published():
    words = answer([("the", 4.0), ("end.", 4.6)], 0.0)
    unsure = replace(words, words=tuple(replace(word, confidence=0.2) for word in words.words))

    ended = LeftContext(REACH_S, HOLD_S, most_held_s=2.5).close_window(unsure, TranscribedRange(0.0, 5.0))
    off = LeftContext(REACH_S, 0.0).close_window(unsure, TranscribedRange(0.0, 5.0, goes_on=True))

    assert (ended.text, off.text) == ("the end.", "the end.")


def test_what_lies_beyond_the_window_is_the_next_ones():
    context = LeftContext(REACH_S, HOLD_S)

    words = [("north", 3.5), ("wind", 3.9), ("and", 4.6)]
    first = context.close_window(answer(words, 0.0), TranscribedRange(0.0, 4.2, tail_s=0.8, goes_on=True))
    second = context.close_window(answer([*words, ("rain", 5.0)], 0.0), TranscribedRange(4.2, 6.0, lead_s=4.2))

    assert (first.text, second.text) == ("north wind", "and rain")
    assert words_of(second)[0].start_s >= 0


def test_times_lie_before_the_window_by_the_hold_back_at_most():
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("the", 4.0), ("answer", 4.65)], 0.0), TranscribedRange(0.0, 5.0, goes_on=True))

    second = context.close_window(
        answer([("the", 4.0), ("answer", 4.2), ("is", 5.2)], 0.0), TranscribedRange(5.0, 6.0, lead_s=5.0)
    )

    assert second.text == "answer is"
    assert [round(word.start_s, 3) for word in words_of(second)] == [-HOLD_S, 0.05]


def test_a_new_word_with_a_time_long_before_its_window_is_recognised_in_the_next():
    """As tiny.en did: "Thomas" has a time before the word that it follows, and a later one in the next window."""
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("our", 4.0), ("wedding,", 4.8)], 0.0), TranscribedRange(0.0, 5.0))
    context.close_window(
        answer([("our", 3.0), ("wedding,", 3.4), ("Thomas.", 3.8)], 0.0), TranscribedRange(5.0, 6.0, lead_s=5.0)
    )

    third = [("our", 4.0), ("wedding,", 5.3), ("Thomas.", 6.2), ("Apart", 6.8), ("from", 7.2), ("that.", 7.6)]

    assert context.close_window(answer(third, 1.0), TranscribedRange(6.0, 8.0, lead_s=5.0)).text == "Apart from that."
    assert [start_s for _, start_s, _ in context.before.words] == sorted(
        start_s for _, start_s, _ in context.before.words
    )


def test_a_partial_shows_what_a_final_would_hold_back_and_changes_nothing():
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("the", 4.0), ("answer", 4.8)], 0.0), TranscribedRange(0.0, 5.0, goes_on=True))
    before = context.before

    heard = answer([("the", 4.0), ("answer", 4.8), ("is", 5.2)], 0.0)

    assert context.new_text(heard, TranscribedRange(5.0, 5.4, lead_s=5.0)).text == "answer is"
    assert context.before == before


def test_without_left_context_what_was_held_back_is_written_all_the_same():
    """The text before was doubted, or another language is spoken: the next window has no left context."""
    assert two_windows([("the", 4.0), ("end", 4.8)], [("now", 5.4)], lead_s=0.0) == ("the", "end now")


def test_words_written_just_before_the_audio_begins_may_be_transcribed_again():
    first, second = [("the", 4.2), ("surface", 4.6)], [("the", 4.6), ("surface", 4.9), ("should", 5.4)]

    assert two_windows(first, second, lead_s=0.5, hold_s=0.0) == ("the surface", "should")


def test_the_same_word_again_and_again_is_not_taken_for_what_was_written():
    first, second = [("no", 4.25), ("no", 4.75)], [("no", 4.75), ("no", 5.25), ("no", 5.75)]

    assert two_windows(first, second, lead_s=0.5, hold_s=0.0) == ("no no", "no no")


def test_after_an_interruption_nothing_is_compared():
    first, second = [("a", 3.0), ("b", 4.8)], [("a", 3.0), ("c", 5.4)]

    assert two_windows(first, second, between=LeftContext.interrupted, lead_s=0.0) == ("a", "b a c")
    assert two_windows([("a", 3.0)], second, between=LeftContext.interrupted) == ("a", "c")


def test_of_a_suppressed_text_nothing_is_shown_but_what_was_left_to_it_is_not_lost():
    """The next window may never come, or fail."""
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("the", 4.0), ("end", 4.8)], 0.0), TranscribedRange(0.0, 5.0, goes_on=True))

    doubted = context.close_window(
        answer([], 0.0, suppressed="repetition"), TranscribedRange(5.0, 10.0, 5.0, goes_on=True)
    )
    after = context.close_window(answer([("new", 10.4)], 9.5), TranscribedRange(10.0, 12.0, 0.5))

    assert (doubted.text, doubted.suppressed, after.text) == ("end", "repetition", "new")
    assert [round(word.start_s, 2) for word in words_of(doubted)] == [-0.35]  # where it was transcribed


def test_a_suppressed_text_to_which_nothing_was_left_is_empty():
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("the", 4.0), ("end", 4.8)], 0.0), TranscribedRange(0.0, 5.0, goes_on=True))

    published_later = context.close_window(
        answer([], 0.0, suppressed="rate"), TranscribedRange(5.0, 10.0, 5.0), again=True
    )
    after = context.close_window(answer([], 9.5, suppressed="rate"), TranscribedRange(10.0, 12.0, 0.5))

    assert [(one.text, one.words, one.suppressed) for one in (published_later, after)] == [("", (), "rate")] * 2


@pytest.mark.parametrize("nothing", [[], [("north", 10.8)]])
def test_after_what_is_missing_nothing_comes_again_though_the_next_window_says_nothing(nothing):
    """Silence, or all of it is held back: then the window after that has long left context."""
    context = LeftContext(REACH_S, HOLD_S)
    context.close_window(answer([("gale", 3.0), ("force", 4.0)], 0.0), TranscribedRange(0.0, 5.0))
    context.interrupted()
    second = context.close_window(answer(nothing, 9.5), TranscribedRange(10.0, 11.0, 0.5, goes_on=True))
    heard = [("gale", 8.0), ("lost", 9.0), *nothing, ("now", 11.5)]

    third = context.close_window(answer(heard, 6.0), TranscribedRange(11.0, 13.0, 5.0))

    assert (second.text, third.text) == ("", " ".join([*(word for word, _ in nothing), "now"]))


def test_words_held_back_before_the_next_windows_audio_are_written():
    context = LeftContext(REACH_S, 2.0)
    said = [("one", 2.0), ("two", 3.4), ("three", 4.0), ("four", 4.7)]
    context.close_window(answer(said, 0.0), TranscribedRange(0.0, 5.0, goes_on=True))

    assert (
        context.close_window(answer([("four", 4.7), ("five", 5.4)], 4.5), TranscribedRange(5.0, 7.0, 0.5)).text
        == "two three four five"
    )


def test_where_speech_has_ended_words_that_slip_over_the_end_are_written():
    context = LeftContext(REACH_S, HOLD_S)

    assert (
        context.close_window(answer([("the", 4.0), ("end", 5.2)], 0.0), TranscribedRange(0.0, 5.0, tail_s=0.5)).text
        == "the end"
    )
    words = (Word("the", 4.0, 4.2, 0.9), Word("end", 5.0, 5.0, 0.9))  # nothing follows it, and it has no length
    alone = LeftContext(REACH_S, 0.0).close_window(
        Transcript("the end", words, "en", -0.1, None, 0.1), TranscribedRange(0.0, 5.0, goes_on=True)
    )
    assert alone.text == "the end"


def test_where_nothing_is_held_back_no_rounding_does_it():
    text = Transcript("132", (), "en", -0.1, None, 0.1)

    assert LeftContext(REACH_S, 0.0).close_window(text, TranscribedRange(2.6655, 3.6655, goes_on=True)).text == "132"


def test_spaces_stay_where_they_are_in_languages_that_write_few():
    context = LeftContext(REACH_S, HOLD_S)
    words = tuple(
        Word(word, at_s, at_s + 0.4, 0.9)
        for word, at_s in [("我用", 0.5), ("GitHub", 1.0), ("Actions", 1.5), ("部署", 4.4)]
    )
    first = Transcript("我用 GitHub Actions 部署", words, "zh", -0.1, None, 0.1)

    assert context.close_window(first, TranscribedRange(0.0, 5.0, goes_on=True)).text == "我用 GitHub Actions"
    assert context.close_window(answer([], 5.0, "zh"), TranscribedRange(5.0, 6.0)).text == "部署"
    assert LeftContext(REACH_S, HOLD_S).close_window(first, TranscribedRange(0.0, 5.0)).text == first.text


def test_text_without_times_is_spread_over_what_was_transcribed():
    context = LeftContext(REACH_S, 0.0)

    def untimed(text):
        return Transcript(text, None, "en", -0.1, None, 0.1)

    first = context.close_window(untimed("one two three four"), TranscribedRange(0.0, 5.0, goes_on=True))
    second = context.close_window(untimed("one two three four five six seven eight"), TranscribedRange(5.0, 10.0, 5.0))

    assert (first.text, second.text) == ("one two three four", "five six seven eight")
    assert (first.words, second.words) == (None, None)


WORDS = st.sampled_from("the a of and in north wind five harbour ship no yes one two steps climb".split())  # noqa: SIM905
SPEECH = st.lists(st.tuples(WORDS, st.floats(0.15, 0.9)), min_size=1, max_size=60)
"""Words, and seconds from the one before to each."""


def said(speech):
    at_s, out = 0.0, []
    for word, step_s in speech:
        at_s += step_s
        out.append((word, round(at_s, 3)))
    return out, at_s + 0.5


def windows_of(end_s, lengths_s):
    cut_s = 0.0
    for length_s in lengths_s:
        if cut_s + length_s >= end_s:
            break
        yield cut_s, cut_s + length_s, True
        cut_s += length_s
    yield cut_s, end_s, False


@given(
    SPEECH,
    st.lists(st.floats(1.5, 5), max_size=10),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=300)
def test_speech_that_is_transcribed_right_is_written_right(speech, lengths_s, random, hold_s):
    """Every pass puts a word at another time; the state may go through JSON between two windows."""
    true, end_s = said(speech)
    context = LeftContext(REACH_S, hold_s)
    texts = []
    for start_s, stop_s, goes_on in windows_of(end_s, [*lengths_s, *[4.0] * 20]):
        lead_s = min(start_s, REACH_S)
        begin_s = start_s - lead_s
        slip_s = random.uniform(-0.1, 0.1)
        heard = [(word, at_s + slip_s) for word, at_s in true if begin_s <= at_s < stop_s]
        about = TranscribedRange(start_s, stop_s, lead_s, 0.0, goes_on)
        stored = WrittenState(**context.before._asdict()).model_dump_json()
        restored = Written(**WrittenState.model_validate_json(stored).model_dump())
        assert restored == context.before
        context = LeftContext(REACH_S, hold_s, restored)
        out = context.close_window(answer(heard, begin_s), about)
        texts.append(out.text)
        times = [time_s for word in words_of(out) for time_s in (word.start_s, word.end_s)]
        assert all(-hold_s - 1e-6 <= time_s <= stop_s - start_s + 1e-6 for time_s in times)

    assert " ".join(filter(None, texts)) == " ".join(word for word, _ in true)


ANY = st.lists(st.tuples(WORDS, st.floats(0, 10)), max_size=20).map(
    lambda words: sorted(words, key=lambda word: word[1])
)


@given(ANY, ANY, st.sampled_from(["en", "zh"]), st.booleans(), st.floats(0, 5))
@example([("the", 10.0), ("harbour", 10.0)], [("the", 0.0)], "zh", True, 0.125)  # two words at one time
def test_whatever_is_transcribed_is_taken_from_it_in_order(first, second, language, goes_on, lead_s):
    context = LeftContext(REACH_S, HOLD_S)
    first = [(word, at_s / 2) for word, at_s in first]
    context.close_window(answer(first, 0.0, language), TranscribedRange(0.0, 5.0, goes_on=goes_on))
    held = context.before.held
    second = [(word, 5 - lead_s + at_s / 10 * (5 + lead_s)) for word, at_s in second]

    out = context.close_window(answer(second, 5 - lead_s, language), TranscribedRange(5.0, 10.0, lead_s))

    space = "" if language == "zh" else " "
    parts = list("".join(word for word, _ in second)) if language == "zh" else [word for word, _ in second]
    endings = [parts[n:] for n in range(len(parts) + 1)]
    left = [word[0].strip() for word in held]
    # What was held back before the left context comes first.
    allowed = {space.join([*left[:n], *ending]) for n in range(len(left) + 1) for ending in endings}
    assert out.text in allowed
    assert all(word.start_s <= word.end_s for word in words_of(out))
