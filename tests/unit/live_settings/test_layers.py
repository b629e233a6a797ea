"""Which value holds: keys, precedence, what is refused."""

import asyncio
import contextlib

import pytest
from hypothesis import given, strategies as st

from transcriber.config import load_settings
from transcriber.config.live import DAEMON_SETTINGS, STREAM_SETTINGS, check_value, parse_key
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings

BASE = load_settings(config_bucket="TRANSCRIBER_CONFIG")


def live(*said, base=BASE):
    """What holds when ``said`` (key, value) is all there is, the oldest first."""
    found = LiveSettings(base, "pod-1-77", lambda language: language != "zu")
    found.take(Entry(key, value, revision) for revision, (key, value) in enumerate(said, 1))
    return found


def prompt(found, stream="radio-7"):
    return found.stream(stream).now.whisper_prompt


def why(found):
    return {key: refused.why for key, refused in found.layers.refused.items()}


def test_the_more_specific_key_holds():
    said = [
        ("stream.radio-7.whisper_prompt", "one stream"),
        ("stream.radio-=.whisper_prompt", "radios"),
        ("stream.=.whisper_prompt", "all streams"),
        ("daemon.pod-1-77.whisper_prompt", "this process"),
        ("daemon.pod-1.whisper_prompt", "this host"),
        ("global.whisper_prompt", "everywhere"),
    ]

    for number, (_, text) in enumerate(said):
        assert prompt(live(*said[number:])) == text
        assert prompt(live(*reversed(said[number:]))) == text
    assert prompt(live()) is None


@pytest.mark.parametrize(
    "key", ["daemon.pod-2.whisper_prompt", "stream.radio.whisper_prompt", "stream.adio-=.whisper_prompt"]
)
def test_what_is_for_others_is_not_for_us(key):
    found = live((key, "theirs"))

    assert prompt(found) is None
    assert why(found) == {}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("global.speech_threshold", "7", "SPEECH_THRESHOLD='7': input should be less than 1"),
        ("global.endpoint_silence_secs", "soon", "ENDPOINT_SILENCE_SECS='soon': input should be a valid number"),
        ("stream.=.whisper_language", "Klingon", "WHISPER_LANGUAGE='Klingon': must be auto, a code such as en"),
        ("global.whisper_language", "zu", "WHISPER_LANGUAGE='zu': the model does not know it"),
        ("global.left_context_secs", "0", "LEFT_CONTEXT_SECS='0': to switch it on or off needs a restart"),
        ("global.whisper_threads", "2", "WHISPER_THREADS needs a restart"),
        ("global.WHISPER_PROMPT", "x", "must be global.SETTING"),
        ("daemon.pod-9.nats_url", "x", "NATS_URL needs a restart"),
        ("global.volume", "11", "no setting VOLUME"),
        ("stream.radio-7.log_level", "DEBUG", "LOG_LEVEL is a daemon's, not a stream's"),
        ("whisper_prompt", "x", "must be global.SETTING"),
        ("stream.whisper_prompt", "x", "must be global.SETTING"),
    ],
)
def test_a_bad_one_is_refused_by_its_name_and_changes_nothing(key, value, reason):
    found = live((key, value))

    assert why(found)[key].startswith(reason)
    assert found.refused == 1
    assert found.daemon == BASE
    assert found.stream("radio-7").now == BASE
    assert found.stream("radio-7").latest() == BASE.window_policy


def test_the_line_about_a_long_value_has_its_beginning_and_what_is_allowed():
    key = "global.whisper_prompt"

    assert why(live((key, "x" * 15_000)))[key] == (
        f"WHISPER_PROMPT='{'x' * 200}...': string should have at most 1000 characters"
    )


def test_the_latest_good_value_holds_until_it_is_deleted():
    key = "global.speech_threshold"
    good, bad, gone = (key, "0.3"), (key, "high"), (key, None)

    def threshold(*said):
        return live(*said).stream("s").now.speech_threshold

    assert threshold(good) == threshold(good, bad, bad) == 0.3
    assert threshold(good, gone) == threshold(good, gone, bad) == threshold(bad) == BASE.speech_threshold
    assert threshold(bad, good) == 0.3
    assert live(good, bad, good).refused == 0
    assert live(good, bad, gone).refused == 0


def test_a_language_that_is_not_allowed_is_refused():
    found = live(("global.whisper_language", "fr"), base=load_settings(config_bucket="C", whisper_languages="en,de"))

    assert "WHISPER_LANGUAGE='fr' is not in WHISPER_LANGUAGES='en,de'" in why(found)["global.whisper_language"]


def test_a_window_keeps_what_it_began_with():
    found = live()
    stream = found.stream("radio-7")
    before = stream.latest()
    found.take([Entry("global.speech_threshold", "0.3", 1), Entry("stream.=.whisper_prompt", "names", 2)])
    after = stream.latest()

    assert (before.changes, before.speech_threshold) == ((), BASE.speech_threshold)
    assert after.changes == (("speech_threshold", 0.3), ("whisper_prompt", "names"))
    assert stream.policy(before.changes) == before
    assert stream.policy(after.changes) == after
    assert stream.of(after.changes).whisper_prompt == "names"
    # Another daemon, whose bucket says something else by now.
    assert live().stream("radio-7").policy(after.changes) == after


def test_what_a_checkpoint_of_another_daemon_says_cannot_break_this_one():
    stream = live(base=load_settings(left_context_secs=0)).stream("s")

    found = stream.of((("left_context_secs", 5.0), ("nats_url", "nats://elsewhere"), ("speech_threshold", 0.3)))

    assert (found.left_context_s, found.speech_threshold, found.nats_url) == (0.0, 0.3, BASE.nats_url)


def test_settings_of_the_daemon_follow_at_once(monkeypatch):
    levels = []
    monkeypatch.setattr("logging.Logger.setLevel", lambda _, level: levels.append(level))
    found = live(("daemon.pod-=.log_level", "debug"), ("global.max_streams", "3"))
    found.take([])

    assert levels == ["DEBUG", "INFO"]
    assert found.daemon == BASE
    assert found.changes == 4


def fits_as_defined(pattern, name):
    """``=`` is any characters, everything else itself."""
    if not pattern or not name:
        return not name and set(pattern) <= {"="}
    if pattern[0] == "=":
        return fits_as_defined(pattern[1:], name) or fits_as_defined(pattern, name[1:])
    return pattern[0] == name[0] and fits_as_defined(pattern[1:], name[1:])


@given(st.text("ab=", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_a_pattern_fits_what_it_is_defined_to_fit(pattern, name):
    assert parse_key(f"stream.{pattern}.whisper_prompt").fits(name) == fits_as_defined(pattern, name)


def test_a_pattern_of_many_pieces_is_decided_at_once():
    """An expression that tries all places of all pieces would take longer than there are tests."""
    assert not parse_key(f"stream.{'=a' * 60}=b.whisper_prompt").fits("a" * 400)


async def test_each_text_is_checked_once_whatever_changes_beside_it(monkeypatch):
    """Also a bad one, and when the model is another one; the event loop is left to audio between two values."""
    checked, languages = [], {"de"}

    def check(base, setting, text):
        checked.append(text)
        return check_value(base, setting, text)

    monkeypatch.setattr("transcriber.live_settings.live.check_value", check)
    found = LiveSettings(BASE, "pod-1", languages.__contains__)
    key = "global.whisper_language"
    said = [Entry(key, "de", 1), Entry(key, "Klingon", 2), Entry("stream.s.whisper_prompt", "names", 3)]
    between: list[int] = []
    following = asyncio.create_task(found.follow(said))
    while not following.done():
        between.append(len(checked))
        await asyncio.sleep(0)
    assert sorted(set(between)) == [0, 1, 2, 3]

    found.take([*said, Entry("stream.t.whisper_prompt", "others", 4)])
    languages.clear()
    found.check_again()

    assert checked == ["Klingon", "de", "names", "others"]
    assert "'Klingon'" in why(found)[key]
    assert found.stream("s").now.whisper_language == "auto"

    found.take([])
    found.take(said[2:])
    assert checked[4:] == ["names"]  # what nobody says any more is forgotten


def test_of_many_streams_each_finds_its_own():
    found = live(*((f"stream.s{n}.whisper_prompt", f"names {n}") for n in range(20)))

    assert {prompt(found, f"s{n}") for n in range(20)} == {f"names {n}" for n in range(20)}


@given(st.text(max_size=40) | st.from_regex(r"(global|stream\.[A-Za-z0-9_=-]+|daemon\.\S+)\.[a-z_]+", fullmatch=True))
def test_any_text_is_a_key_or_refused_in_a_line(text):
    with contextlib.suppress(ValueError):
        key = parse_key(text)
        assert key.setting in STREAM_SETTINGS | DAEMON_SETTINGS
        assert ".".join(filter(None, key)) == text


@given(st.sampled_from(sorted(STREAM_SETTINGS | DAEMON_SETTINGS)), st.text(max_size=12) | st.floats().map(str))
def test_any_value_is_one_of_the_settings_or_refused_in_a_line(setting, text):
    with contextlib.suppress(ValueError):
        value = check_value(BASE, setting, text)
        assert getattr(load_settings(**{setting: value}), setting) == value
