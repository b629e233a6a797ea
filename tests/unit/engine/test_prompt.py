import pytest
from hypothesis import given, strategies as st

from transcriber.engine.prompt import MAX_CHARS, SpeakerPrompt, last_words
from transcriber.engine.transcript import Transcript


def said(text, avg_logprob=-0.1, language="en", doubt=None, **what):
    return Transcript(text, (), language, avg_logprob, None, 0.5, doubt, **what)


def test_sure_text_is_the_prompt_of_the_next_window_and_grows():
    context = SpeakerPrompt()

    context.record(said("Gale warning"), context.epoch)
    context.record(said("for the north channel."), context.epoch)

    assert context.text == "Gale warning for the north channel."


def test_text_of_a_language_without_spaces_grows_without_them():
    context = SpeakerPrompt()

    context.record(said("人人生而", language="zh"), context.epoch)
    context.record(said("自由", language="zh"), context.epoch)

    assert context.text == "人人生而自由"


@pytest.mark.parametrize(
    "answer",
    [
        said("tonight", -0.51),
        said("tonight", None),
        said("tonight", doubt="log_probability"),
        said("", None, doubt="gave_up"),
        said("", suppressed="repetition"),
        said("tonight", trimmed=True),
        said(""),
        None,
    ],
    ids=["unsure", "unknown", "doubtful", "gave up", "suppressed", "trimmed", "empty", "failed"],
)
def test_whatever_is_not_sure_text_ends_the_context(answer):
    context = SpeakerPrompt()
    context.record(said("Gale warning"), context.epoch)

    context.record(answer, context.epoch)

    assert context.text == ""


def test_text_just_sure_enough_is_kept():
    context = SpeakerPrompt()

    context.record(said("Gale warning", -0.5), context.epoch)

    assert context.text == "Gale warning"


def test_after_a_gap_nothing_of_before_it_is_prompt_even_if_it_is_answered_later():
    context = SpeakerPrompt()
    before = context.epoch
    context.record(said("Gale warning"), before)

    context.reset()
    context.record(said("for the north channel."), before)  # it waited in the queue when the audio broke off

    assert context.text == ""
    assert context.of_epoch(before) == "Gale warning for the north channel."
    context.record(said("Over."), context.epoch)
    assert context.text == "Over."


def test_the_end_of_a_long_text_begins_with_a_whole_word():
    assert last_words("one two three", 9) == "two three"
    assert last_words("one two three", 8) == "three"
    assert last_words("one two three", 13) == "one two three"
    assert last_words("onetwothree", 5) == "three"
    assert last_words("one two", 0) == ""


@given(st.text("ab ", max_size=40).map(lambda text: " ".join(text.split())), st.integers(0, 45))
def test_the_end_is_no_longer_than_allowed_and_of_whole_words(text, max_chars):
    kept = last_words(text, max_chars)

    assert len(kept) <= max_chars
    assert text.endswith(kept)
    if " " in text[-max_chars - 1 :] and kept and kept != text:
        assert text.split()[-len(kept.split()) :] == kept.split()


steps = st.lists(st.sampled_from(["drop", "follow", "fail"]) | st.integers(0, 3), max_size=30)


@given(steps)
def test_no_prompt_crosses_a_gap_whatever_the_order(happened):
    """Every word is the number of the epoch in which it was said, so that what crosses a gap shows."""
    context, waiting = SpeakerPrompt(), []
    for what in happened:
        if what == "drop":
            context.reset()
        elif isinstance(what, int):
            waiting += [context.epoch] * what
        elif waiting:
            epoch = waiting.pop(0)
            assert set(context.of_epoch(epoch).split()) <= {str(epoch)}
            context.record(said(str(epoch)) if what == "follow" else None, epoch)
        assert set(context.text.split()) <= {str(context.epoch)}
        assert len(context.text) <= MAX_CHARS
