import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.library import BEAM_SEARCH, library
from transcriber.engine.whisper.model import kernel_features, load_checked_model, load_model
from transcriber.engine.whisper.weights import State
from transcriber.errors import ConfigError, EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL

SETTINGS = Settings(whisper_model="demo", whisper_threads=1)
SAID = "Gale warning for the north channel tonight. Wind northwest thirty five knots,"
SPEECH = self_test_speech()
SPEECH.setflags(write=False)  # a job's samples are never written to


def never() -> bool:
    return False


def always() -> bool:
    return True


@pytest.fixture(scope="module")
def model():
    model = load_model(DEMO_MODEL, SETTINGS)
    yield model
    model.close()


@pytest.fixture(scope="module")
def many_file(tmp_path_factory):
    """The bundled model with one more token before the special ones: whisper.cpp then takes it for multilingual."""
    data = DEMO_MODEL.read_bytes()
    name = data.index(b"decoder.token_embedding.weight")
    rows = name + len(b"decoder.token_embedding.weight")
    row = rows + 50_256 * 2 * 96
    parts = data[8 : name - 8], struct.pack("<2i", 96, 51_865), data[name:row], data[row - 2 * 96 : row], data[row:]
    path = tmp_path_factory.mktemp("model") / "ggml-many.bin"
    path.write_bytes(data[:4] + struct.pack("<i", 51_865) + b"".join(parts))
    return path


@pytest.fixture(scope="module")
def multilingual(many_file):
    model = load_model(many_file, SETTINGS)
    yield model
    model.close()


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    code = "from tests.integration.engine.whisper.test_model import *\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_speech_becomes_text(model):
    transcript = model.transcribe(SPEECH, None, never)

    assert transcript.text == SAID
    assert transcript.language == "en"
    assert -0.5 < transcript.avg_logprob <= 0.0
    assert transcript.processing_s > 0.0


def test_words_are_the_text_with_ordered_times(model):
    transcript = model.transcribe(SPEECH, None, never)

    times = [time for word in transcript.words for time in (word.start_s, word.end_s)]
    assert " ".join(word.word for word in transcript.words) == transcript.text
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] <= 5.0
    assert all(0.0 < word.confidence <= 1.0 for word in transcript.words)


def test_words_are_where_they_were_said(model):
    starts_s = {"Gale": 0.30, "channel": 1.59, "tonight.": 1.91, "Wind": 2.82, "five": 4.16}

    words = {word.word: word.start_s for word in model.transcribe(SPEECH, None, never).words}

    assert all(abs(words[word] - start_s) < 0.25 for word, start_s in starts_s.items())


@pytest.mark.parametrize("duration_s", [1 / 16_000, 0.3, 1.0, 5.0, 10.24])
def test_silence_is_empty_text(model, duration_s):
    transcript = model.transcribe(np.zeros(round(duration_s * 16_000), np.float32), None, never)

    assert transcript.text == ""
    assert transcript.words == ()


def test_noise_is_empty_text_though_the_model_says_a_control_byte(model):
    noise = np.random.default_rng(1).normal(0, 0.01, 80_000).astype(np.float32)

    transcript = model.transcribe(noise, None, never)

    assert transcript.text == ""
    assert transcript.words == ()


def test_times_of_a_short_window_stay_inside_it(model):
    transcript = model.transcribe(SPEECH[4_800:17_600], None, never)

    assert transcript.words
    assert transcript.words[-1].end_s <= 0.8


def test_a_prompt_reaches_the_decoder_and_leaves_the_text_whole(model):
    plain = model.transcribe(SPEECH, None, never)

    prompted = [
        model.transcribe(SPEECH, None, never, prompt=p) for p in ("Gale warning.", "Motor vessel", "Berth four")
    ]

    assert {transcript.text for transcript in prompted} == {SAID}
    assert len({transcript.avg_logprob for transcript in (plain, *prompted)}) == 4


def test_a_prompt_does_not_leak_into_later_calls(model):
    windows = [SPEECH, SPEECH[24_000:], SPEECH[:50_000], SPEECH[::-1].copy()]
    plain = [answer(model.transcribe(window, None, never)) for window in windows]
    prompted = [answer(model.transcribe(window, None, never, prompt="Wind high.")) for window in windows]

    for number in range(5):
        for window, before, before_prompted in zip(windows, plain, prompted, strict=True):
            model.transcribe(window, None, never, prompt=f"Vessel number {number} at berth. " * (number + 1))
            assert answer(model.transcribe(window, None, never)) == before
            assert answer(model.transcribe(window, None, never, prompt="Wind high.")) == before_prompted


def spy_on(monkeypatch, parameter):
    """What whisper.cpp is given for ``parameter``, call by call."""
    given = []
    run = library().computing.whisper_full_with_state

    def spy(context, state, params, *rest):
        value = getattr(params, parameter)
        given.append(value.decode() if isinstance(value, bytes) else value)
        return run(context, state, params, *rest)

    monkeypatch.setattr(library().computing, "whisper_full_with_state", spy)
    return given


def answer(transcript):
    return transcript.text, transcript.words, transcript.avg_logprob


@pytest.mark.parametrize("prompt", ["", " ", "\n"])
def test_an_empty_prompt_is_none(model, prompt):
    assert answer(model.transcribe(SPEECH, None, never, prompt=prompt)) == answer(model.transcribe(SPEECH, None, never))


def test_of_a_prompt_too_long_the_end_is_used(model):
    end = " ".join(["wind"] * 250)  # a token each, and more than fit

    long, longer = (
        model.transcribe(SPEECH, None, never, prompt=f"{before} {end}") for before in ("tide", "berth " * 9999)
    )

    assert answer(long) == answer(longer)


def test_a_prompt_in_any_script_is_no_error(model):
    for prompt in ("日本語" * 400, "—" * 4000, "é" * 3000, "\x00"):
        model.transcribe(SPEECH, None, never, prompt=prompt)


def test_the_vocabulary_is_given_before_every_window_and_before_what_was_said(model, monkeypatch):
    given = spy_on(monkeypatch, "initial_prompt")
    trained = load_model(DEMO_MODEL, with_prompt("north  channel,\nknots"))

    transcripts = [trained.transcribe(SPEECH, None, never, prompt=said) for said in ("", "Gale warning.")]

    assert given == [" north channel, knots", " north channel, knots Gale warning."]
    assert answer(transcripts[0]) == answer(model.transcribe(SPEECH, None, never, prompt="north channel, knots"))
    trained.close()


def test_beside_a_vocabulary_as_long_as_fits_there_is_no_place_for_what_was_said(model, monkeypatch):
    given = spy_on(monkeypatch, "initial_prompt")
    words = " ".join(["a"] * 223)
    trained = load_model(DEMO_MODEL, with_prompt(words))

    trained.transcribe(SPEECH, None, never, prompt="Gale warning.")

    assert given == [f" {words}"]
    trained.close()


def test_a_vocabulary_too_long_is_an_error_that_counts_it():
    with pytest.raises(ConfigError, match="WHISPER_PROMPT is 224 tokens long; the model demo takes at most 223"):
        load_model(DEMO_MODEL, with_prompt(" ".join(["a"] * 224)))


def test_the_self_test_of_the_kernels_knows_no_vocabulary(tmp_path, monkeypatch):
    path = tmp_path / "model.bin"
    path.symlink_to(DEMO_MODEL)
    given = spy_on(monkeypatch, "initial_prompt")

    load_checked_model(path, with_prompt("over " * 200)).close()

    assert given == [""]


def with_prompt(prompt):
    return SETTINGS.model_copy(update={"whisper_prompt": prompt})


BEAMS = SETTINGS.model_copy(update={"whisper_beam_size": 5})


@pytest.fixture(scope="module")
def with_beams():
    model = load_model(DEMO_MODEL, BEAMS)
    yield model
    model.close()


def test_beams_are_asked_for_and_find_the_words(with_beams, monkeypatch):
    beams, strategy = spy_on(monkeypatch, "beam_search"), spy_on(monkeypatch, "strategy")

    transcript = with_beams.transcribe(SPEECH, None, never)

    assert transcript.text == SAID
    assert transcript.doubt is None
    assert strategy == [BEAM_SEARCH]
    assert beams[0].beam_size == 5


def test_greedy_among_beams_is_greedy_and_always_the_same(model, with_beams):
    plain = answer(model.transcribe(SPEECH, None, never))

    for _ in range(3):
        with_beams.transcribe(SPEECH[::-1].copy(), None, never)
        assert answer(with_beams.transcribe(SPEECH, None, never, greedy=True)) == plain


def test_an_answer_is_as_long_as_the_decoder_ran_for_it(model):
    """What is counted where there are beams, of which another one may have gone on for longer."""
    ran = []
    run = model._run

    def noted(*given):
        ran.append(run(*given))
        return ran[-1]

    model._run = noted
    try:
        for window in (SPEECH, SPEECH[24_000:], SPEECH[:50_000]):
            assert model.transcribe(window, None, never).text
            assert model._n_tokens() == ran[-1][0]
    finally:
        model._run = run


def test_another_beam_that_went_on_for_too_long_is_no_doubt(with_beams, monkeypatch):
    run = with_beams._run

    def long_run(*given):
        return 999, run(*given)[1]

    monkeypatch.setattr(with_beams, "_run", long_run)

    assert with_beams.transcribe(SPEECH, None, never).doubt is None
    assert with_beams.transcribe(SPEECH, None, never, greedy=True).doubt == "token_cap"


def test_strided_samples_are_read_as_they_are(model):
    stereo = np.stack([SPEECH, np.zeros_like(SPEECH)], axis=1)

    assert model.transcribe(stereo[:, 0], None, never).text == SAID


def test_calls_do_not_depend_on_earlier_ones(model):
    first = model.transcribe(SPEECH, None, never)
    model.transcribe(SPEECH[::-1][:32_000], None, never)

    second = model.transcribe(SPEECH, None, never)

    assert (second.text, second.words) == (first.text, first.words)


def test_answers_do_not_depend_on_the_context_of_earlier_ones(model):
    usual, other = (load_model(DEMO_MODEL, SETTINGS) for _ in range(2))
    windows = [SPEECH, SPEECH[::-1].copy(), SPEECH[24_000:], SPEECH[:50_000], SPEECH[:40_000]]

    for window in windows:
        for alone, wide in ((usual, False), (other, True)):
            heard, expected = (each.transcribe(window, None, never, wide=wide) for each in (model, alone))
            assert (heard.text, heard.avg_logprob) == (expected.text, expected.avg_logprob)


def test_what_lies_beyond_the_window_is_silence_wherever_whisper_looks(multilingual, monkeypatch):
    given = []
    set_mel = State.set_mel

    def spy(state, mel):
        given.append((mel.shape[1], mel[:, 502:]))
        set_mel(state, mel)

    monkeypatch.setattr(State, "set_mel", spy)
    multilingual.transcribe(SPEECH, "en", never, wide=True)
    multilingual.transcribe(SPEECH, None, never)  # detects the language first

    assert [frames for frames, _ in given] == [2560, 1024, 1024]
    assert all(np.all(beyond == beyond.min()) and beyond.min() < 0 for _, beyond in given)


@pytest.mark.parametrize(
    ("seconds", "usual", "positions"), [(1.6, 512, 1024), (3.0, 512, 1024), (3.1, 512, 1280), (1.6, 768, 1280)]
)
def test_a_short_window_is_asked_again_at_less_than_a_long_one(monkeypatch, seconds, usual, positions):
    given = []
    set_mel = State.set_mel

    def spy(state, mel):
        given.append(mel.shape[1])
        set_mel(state, mel)

    model = load_model(DEMO_MODEL, SETTINGS.model_copy(update={"whisper_audio_ctx": usual}))
    monkeypatch.setattr(State, "set_mel", spy)
    try:
        for _ in range(2):  # the first also depends on the context of the call before
            assert model.transcribe(SPEECH[: int(seconds * 16_000)], "en", never, wide=True).wide
    finally:
        model.close()

    assert given[-1] == 2 * positions


def test_window_longer_than_the_usual_context_gets_a_wide_one(model):
    answer = model.transcribe(np.resize(SPEECH, 24 * 16_000), None, never)

    assert answer.wide
    assert not model.transcribe(SPEECH, None, never).wide
    assert max(word.end_s for word in answer.words) > 20


def test_window_longer_than_any_context_is_an_error(model):
    with pytest.raises(EngineError, match=r"26 s do not fit the context of 25\.6 s"):
        model.transcribe(np.zeros(26 * 16_000, np.float32), None, never)


def test_abort_before_the_call_starts_nothing(model):
    with pytest.raises(EngineError, match="aborted") as caught:
        model.transcribe(SPEECH, None, always)

    assert caught.value.return_code == 0


@pytest.mark.parametrize(("asked", "code"), [(1, -6), (2, -8), (5, -9)])
def test_abort_after_the_encoder_and_between_tokens(model, asked, code):
    answers = iter([False] * asked)

    with pytest.raises(EngineError, match="aborted") as caught:
        model.transcribe(SPEECH, None, lambda: next(answers, True))

    assert caught.value.return_code == code
    assert model.transcribe(SPEECH, None, never).text == SAID


def test_an_error_of_the_caller_on_the_way_is_the_callers(model):
    def broken():
        if next(asked):
            raise KeyError("the caller's own")
        return False

    for at in (1, 3):
        asked = iter([False] * at + [True] * 9)
        with pytest.raises(KeyError, match="the caller's own"):
            model.transcribe(SPEECH, None, broken)

    assert model.transcribe(SPEECH, None, never).text == SAID


def test_closed_model_is_an_error_and_no_crash():
    model = load_model(DEMO_MODEL, SETTINGS)
    model.close()
    model.close()

    with pytest.raises(EngineError, match="closed"):
        model.transcribe(SPEECH, None, never)


def test_english_model_is_always_english(model):
    assert model.supports("en")
    assert not model.supports("de")
    assert model.transcribe(SPEECH, "de", never).language == "en"


def test_multilingual_model_has_whispers_languages(multilingual):
    assert all(map(multilingual.supports, ["en", "de", "zh", "haw"]))
    assert not any(map(multilingual.supports, ["yue", "xx", "german", "auto", ""]))


def test_multilingual_model_reports_the_given_or_detected_language(multilingual):
    assert multilingual.transcribe(SPEECH, "de", never).language == "de"
    assert multilingual.supports(multilingual.transcribe(SPEECH, None, never).language)


def test_languages_are_detected_in_one_encoder_run_whatever_was_transcribed_before(multilingual, monkeypatch):
    detected = []
    detect = library().computing.whisper_lang_auto_detect_with_state

    def spy(*arguments):
        detected.append(arguments)
        return detect(*arguments)

    monkeypatch.setattr(library().computing, "whisper_lang_auto_detect_with_state", spy)
    first = multilingual.detect(SPEECH, never)

    multilingual.transcribe(SPEECH, "de", never, wide=True, prompt="Gale warning.")
    second = multilingual.detect(SPEECH, never)

    assert first.probabilities == second.probabilities
    assert sum(first.probabilities.values()) == pytest.approx(1)
    assert len(first.probabilities) == 99
    assert first.processing_s > 0
    assert len(detected) == 2
    assert multilingual.transcribe(SPEECH, None, never).language == first.likeliest


def test_text_is_the_same_whether_the_language_was_detected_before(multilingual):
    plain = answer(multilingual.transcribe(SPEECH, "en", never))
    multilingual.detect(SPEECH, never)

    assert answer(multilingual.transcribe(SPEECH, "en", never)) == plain


def test_only_languages_that_are_allowed_are_detected(many_file, model):
    two, one = (
        load_model(many_file, SETTINGS.model_copy(update={"whisper_languages": allowed})) for allowed in ("en,de", "de")
    )

    found = two.detect(SPEECH, never).probabilities

    assert found.keys() == {"en", "de"}
    assert sum(found.values()) == pytest.approx(1)
    assert one.detect(SPEECH, never).probabilities == {"de": 1}
    assert model.detect(SPEECH, never).probabilities == {}
    two.close()
    one.close()


def test_a_language_that_nobody_waits_for_any_more_is_not_detected(multilingual):
    with pytest.raises(EngineError, match="aborted before it began"):
        multilingual.detect(SPEECH, lambda: True)


def test_a_window_that_no_context_holds_has_no_language(multilingual):
    with pytest.raises(EngineError, match="do not fit the context"):
        multilingual.detect(np.zeros(31 * 16_000, np.float32), never)


def test_multilingual_model_refuses_a_language_it_lacks(multilingual):
    with pytest.raises(EngineError, match="the model many has no language 'xx'"):
        multilingual.transcribe(SPEECH, "xx", never)


def test_a_language_of_many_tokens_may_have_more_of_them(multilingual, monkeypatch):
    given = spy_on(monkeypatch, "max_tokens")

    for language in ("en", "ka"):
        multilingual.transcribe(SPEECH, language, never)

    assert given == [65, 225]


def test_language_without_spaces_gives_more_than_one_word(multilingual):
    transcript = multilingual.transcribe(SPEECH, "zh", never)

    assert len(transcript.words) > 5


def test_truncated_model_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(DEMO_MODEL.read_bytes()[:-1])

    with pytest.raises(ModelError, match="truncated"):
        load_model(path, SETTINGS)


def test_model_that_whisper_refuses_is_one_line(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(DEMO_MODEL.read_bytes().replace(b"encoder.conv1.bias", b"encoder.conv9.bias"))

    with pytest.raises(ModelError, match=r"model\.bin: whisper\.cpp cannot load it: .*unknown tensor") as caught:
        load_model(path, SETTINGS)

    assert "\n" not in str(caught.value)


def test_path_that_is_no_unicode_is_a_path(tmp_path):
    path = tmp_path / "m\udcff.bin"
    path.symlink_to(DEMO_MODEL)

    load_model(path, SETTINGS).close()


def test_whisper_is_quiet(capfd):
    model = load_model(DEMO_MODEL, SETTINGS)
    model.transcribe(SPEECH, None, never)
    model.close()

    assert capfd.readouterr() == ("", "")


def test_cuda_that_is_not_there_is_logged(caplog):
    model = load_model(DEMO_MODEL, SETTINGS.model_copy(update={"whisper_device": "cuda"}))
    model.close()

    assert model.device.name == "cpu"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WHISPER_DEVICE=cuda" in caplog.text


def test_kernel_features_are_those_of_the_build(model):
    assert {"AVX2", "OPENMP"} <= kernel_features()
    assert "COREML" not in kernel_features()


def test_process_with_a_loaded_model_ends_clean():
    ended = run_python("print(load_model(DEMO_MODEL, SETTINGS).transcribe(SPEECH, None, never).text)")

    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, SAID, "")


@pytest.mark.parametrize(("settings", "need_mb"), [("SETTINGS", 268), ("BEAMS", 276)])
def test_too_little_memory_is_one_line_and_no_crash(settings, need_mb):
    ended = run_python(
        f"""
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
        try:
            load_model(DEMO_MODEL, {settings})
        except ModelError as error:
            print(error)
        """
    )

    assert f"needs about {need_mb} MB of memory: Cannot allocate memory" in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def test_too_little_memory_for_a_window_is_an_error_of_that_window_and_no_crash():
    ended = run_python(
        """
        import resource
        model = load_model(DEMO_MODEL, BEAMS)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**23, used + 2**23))
        for _ in range(2):
            try:
                model.transcribe(SPEECH, "en", never)
            except EngineError as error:
                print(error)
        """
    )

    assert ended.stdout.splitlines() == ["memory is short: [Errno 12] Cannot allocate memory"] * 2
    assert (ended.returncode, ended.stderr) == (0, "")
