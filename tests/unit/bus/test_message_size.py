"""Messages that the broker has room for, and what is left out of those that are too large."""

from typing import Any

from hypothesis import given, strategies as st

from tests.support.messages import final
from transcriber.bus import message_size as bus_fitting
from transcriber.schema.checkpoint import Checkpoint, SessionState, SpeakerState, VoiceState, WrittenState
from transcriber.schema.messages import Status, Turn, Word


def fitting(message, room_bytes) -> Any:
    return bus_fitting.fitting(message, room_bytes)


def size(message):
    return len(message.model_dump_json(by_alias=True).encode())


def said(text, *, written=0) -> Any:
    """A final with as many words as the text has, after which so many are looked for."""
    words = tuple(
        Word(word=word, start=n / 10, end=n / 10 + 0.1, confidence=0.9) for n, word in enumerate(text.split())
    )
    speaker = SpeakerState(
        said="",
        written=WrittenState(
            until_s=5.0, words=[("word", 4.0, 4.1)] * written, held=[("held", 4.9, 5.1, 0.5)], language="en"
        ),
    )
    state: Any = SessionState  # of which only the speakers matter here
    session = state.model_construct(id="a", format="", speakers=(speaker,))
    mark = Checkpoint.model_construct(instance="i", seq=1, attempts=0, owed_from=None, session=session)
    return final(text, 0).model_copy(update={"words": words, "checkpoint": mark})


def test_what_fits_is_left_as_it_is():
    message = said("gale warning", written=5)

    assert fitting(message, size(message)) is message


def test_first_the_times_of_its_words_are_left_out_then_those_of_what_was_written():
    message = said("gale warning " * 20, written=20)
    without_words = message.model_copy(update={"words": None})

    assert fitting(message, size(message) - 1) == without_words
    found = fitting(message, size(without_words) - 1)
    assert (found.text, found.suppressed) == (message.text, None)
    assert found.checkpoint.session.speakers[0].written.words == ()
    assert found.checkpoint.session.speakers[0].written.held == message.checkpoint.session.speakers[0].written.held


def test_then_the_end_of_its_text_with_a_mark():
    message = said("gale warning " * 100)
    least = size(fitting(message, 0))

    found = fitting(message, least + 300)

    assert found.suppressed == "max_payload"
    assert message.text.startswith(found.text)
    assert 285 <= len(found.text) <= 300
    assert size(found) <= least + 300


def test_why_text_was_held_back_is_not_forgotten_and_other_messages_have_no_text():
    held = said("left over").model_copy(update={"suppressed": "rate"})
    started = Status(
        **final("", 0).model_dump(
            include={"stream", "session", "rate", "start_frame", "frames", "start", "duration", "received_at"}
        ),
        state="started",
    )

    assert fitting(held, 0).suppressed == "rate"
    assert fitting(started, 0) == started


@given(st.text('aé 人ก\u0e34"\\\n', max_size=200), st.integers(0, 3000))
def test_whatever_is_said_fits_if_anything_does(text, room):
    message = said(text, written=3)

    found = fitting(message, room)

    assert size(found) <= max(room, size(fitting(message, 0)))
    assert message.text.startswith(found.text)
    assert (found.suppressed == "max_payload") == (found.text != message.text or size(found) > room)


def test_turns_go_with_the_words_and_the_voices_of_the_checkpoint_before_any_text():
    voice = VoiceState(vector="A" * 512, weight_s=1.0)
    message = said("gale warning", written=3)
    speaker = message.checkpoint.session.speakers[0].model_copy(update={"voices": (voice,) * 4})
    session = message.checkpoint.session.model_copy(update={"speakers": (speaker,)})
    message = message.model_copy(
        update={
            "turns": (Turn(speaker="A", start=0, end=1),),
            "checkpoint": message.checkpoint.model_copy(update={"session": session}),
        }
    )
    shorter = fitting(message, size(message) - 1)

    assert (shorter.words, shorter.turns) == (None, None)
    assert shorter.checkpoint.session.speakers[0].voices == (voice,) * 4
    least = fitting(message, size(shorter) - 700)
    assert (least.text, least.suppressed) == ("gale warning", None)
    assert least.checkpoint.session.speakers[0].voices == ()
