"""whisper.cpp: a loaded model.

In: windows of samples. Out: transcripts. The library is called itself (``library.py``): a model is one state of a context,
whose weights other models may share.

A window costs one encoder run at the context that fits it, and one decoder run a token; the spectrogram is
ours (``mel.py``).
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.config import Settings
from transcriber.config.sizing import FORCED_AUDIO_CTX, MIN_AUDIO_CTX
from transcriber.engine.hallucination import doubt
from transcriber.engine.job import CPU, WHISPER_SAMPLE_RATE, Device
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.device import adopt, load_cpu_kernels, load_on_device
from transcriber.engine.whisper.encoder_context import SAMPLES_PER_POSITION, EncoderContext
from transcriber.engine.whisper.kernels import advice, built_features, processor_flags
from transcriber.engine.whisper.library import BEAM_SEARCH, GREEDY, FullParameters, library
from transcriber.engine.whisper.mel import LogMel, frames_within
from transcriber.engine.whisper.memory import allocate_on_trial, call_bytes, check_memory
from transcriber.engine.whisper.native_log import capture_native_log, native_log
from transcriber.engine.whisper.prompt_budget import PromptBudget
from transcriber.engine.whisper.self_test import check_kernels
from transcriber.engine.whisper.weights import State, Weights
from transcriber.engine.whisper.word_timing import Token, clean_text, join_words, phrases
from transcriber.errors import ConfigError, EngineError
from transcriber.models.catalog import DEMO_MODEL, model_name
from transcriber.models.ggml import ModelShape, check_model_file, read_mel_filters
from transcriber.schema.languages import FEW_TOKENS, WHISPER_LANGUAGES, WITHOUT_SPACES

log = logging.getLogger(__name__)

FRAME_MS = 10
NOTHING_MS = 100
"""With so little audio whisper.cpp takes the parameters of a call, and does nothing else."""

TIME_STAMP_S = 0.02
MIN_SAMPLES = WHISPER_SAMPLE_RATE
"""Shorter windows are padded with zeros: whisper transcribes less than a second badly."""

TOKENS_PER_SECOND = 13
MANY_TOKENS_PER_SECOND = 45
"""For other languages than ``FEW_TOKENS``; whisper.cpp itself stops at 220 in a window."""

MIN_TOKENS = 32
NO_THRESHOLD = 2.0
"""A probability that none is above."""


class WhisperModel:
    """A state of a loaded model. Worker thread only, but for ``sibling``; ``close`` while no call is running.

    Attributes:
        name: as it stands in transcripts.
        device: where it really runs.
        tight: whether a second run would have more than the usual encoder context.
        translates: whether it can translate other languages into English.
    """

    def __init__(
        self, weights: Weights, shape: ModelShape, mel: LogMel, name: str, device: Device, settings: Settings
    ) -> None:
        self.name = name
        self.device = device
        self._weights = weights
        self._shape = shape
        self._mel = mel
        self._settings = settings
        self._quick = library().quick
        self._state = State(weights)
        self._context = weights.context
        self._encoder_context = EncoderContext(settings, shape.n_audio_ctx)
        self.tight = self._encoder_context.tight
        self.translates = shape.multilingual
        self._beams = settings.whisper_beam_size
        self._call_bytes = call_bytes(shape, self._beams)
        self._greedy = self._params = _parameters(settings.threads, 1)
        self._with_beams = _parameters(settings.threads, self._beams)
        self._candidates = [
            one for one in WHISPER_LANGUAGES if self.supports(one) and one in (settings.languages or WHISPER_LANGUAGES)
        ]
        self._end_of_text: int = self._quick.whisper_token_eot(self._context)
        self._first_time: int = self._quick.whisper_token_beg(self._context)
        self._no_speech_threshold = self._params.no_speech_thold
        # One of the tokens that whisper.cpp leaves for a prompt marks its start.
        self._prompts = PromptBudget(settings.whisper_prompt or "", shape.n_text_ctx // 2 - 1, self._count_tokens)
        if self._prompts.vocabulary_tokens > self._prompts.max_tokens:
            self.close()
            raise ConfigError(
                f"WHISPER_PROMPT is {self._prompts.vocabulary_tokens} tokens long;"
                f" the model {name} takes at most {self._prompts.max_tokens}"
            )

    def supports(self, language: str) -> bool:
        """Whether the model has this language, an ISO 639-1 code (``yue`` and ``haw`` as Whisper has them)."""
        if not self._shape.multilingual:
            return language == "en"
        number: int = self._quick.whisper_lang_id(language.encode())
        # whisper.cpp also takes "german" for "de", and knows languages that older models lack.
        return 0 <= number < self._shape.n_languages and self._language_of(number) == language

    def sibling(self) -> "WhisperModel":
        """See ``DivisibleModel.sibling``. Any thread."""
        settings, path = self._settings, self._weights.path
        check_memory(path, self._shape, settings.whisper_beam_size, weights=False)
        return WhisperModel(self._weights, self._shape, self._mel, self.name, self.device, settings)

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,
        prompt: str = "",
        translate: bool = False,
        greedy: bool = False,
    ) -> Transcript:
        """See ``SpeechModel.transcribe``. A model without other languages always uses English."""
        positions = self._encoder_context.usual(len(samples))
        wide = self.tight and (wide or positions >= self._encoder_context.wide_positions)
        positions = max(positions, self._encoder_context.wide(len(samples))) if wide else positions
        self._check(samples, language, positions)
        if should_abort():
            raise EngineError("aborted before it began")
        detected = None
        if language is None and self._shape.multilingual:
            detected = self.detect(samples, should_abort)
            language = detected.likeliest
        few = language in FEW_TOKENS or not self._shape.multilingual
        beams = self._beams > 1 and not greedy
        self._params = self._with_beams if beams else self._greedy
        per_second = TOKENS_PER_SECOND if few else MANY_TOKENS_PER_SECOND
        max_tokens = max(MIN_TOKENS, math.ceil(per_second * len(samples) / WHISPER_SAMPLE_RATE))
        self._params.language = (language or "en").encode() if self._shape.multilingual else b"en"
        self._params.max_tokens = max_tokens
        self._params.translate = translate
        self._params.audio_ctx = positions
        self._set_prompt(prompt)
        ran, processing_s = self._run(_padded(samples), positions, should_abort)
        steps = (self._n_tokens() or ran) if beams else ran
        tokens = list(self._tokens())
        spoken = [token for token in tokens if token.time_s is None]
        avg_logprob = min(0.0, sum(token.logprob for token in spoken) / len(spoken)) if spoken else None
        used = self._language()
        return Transcript(
            text=clean_text(b"".join(token.raw for token in spoken)),
            words=join_words(tokens, len(samples) / WHISPER_SAMPLE_RATE, spaces=used not in WITHOUT_SPACES),
            language=used,
            avg_logprob=avg_logprob,
            no_speech_prob=None,  # see _set_prompt: mostly a wrong row's
            processing_s=processing_s + (detected.processing_s if detected else 0.0),
            wide=wide,
            doubt=doubt([token.raw for token in spoken], avg_logprob, steps=steps, max_steps=max_tokens),
            phrases=phrases(tokens, len(samples) / WHISPER_SAMPLE_RATE),
        )

    def detect(self, samples: NDArray[np.float32], should_abort: Callable[[], bool]) -> LanguageProbabilities:
        """See ``MultilingualModel.detect``. At the usual context, at which detection is as good as at a wide one."""
        if not self._shape.multilingual:
            return LanguageProbabilities({}, 0.0)
        if len(self._candidates) == 1:
            return LanguageProbabilities({self._candidates[0]: 1.0}, 0.0)
        positions = self._encoder_context.usual(len(samples))
        self._check(samples, None, positions)
        if should_abort():
            raise EngineError("aborted before it began")
        # whisper.cpp detects at the context of the previous call: make one that does nothing but set it.
        self._params.language, self._params.initial_prompt, self._params.audio_ctx = b"en", None, positions
        started_s = time.perf_counter()
        self._set_samples(_padded(samples), positions)
        self._params.duration_ms = NOTHING_MS
        self._state.run(self._params)
        probabilities = self._state.detect(self._params.n_threads)
        found = {one: float(probabilities[self._quick.whisper_lang_id(one.encode())]) for one in self._candidates}
        whole = sum(found.values()) or 1.0
        return LanguageProbabilities(
            {one: share / whole for one, share in found.items()}, time.perf_counter() - started_s
        )

    def close(self) -> None:
        """Free its state, and the weights if no other model uses them; it cannot be used afterwards."""
        self._state.close()

    def _set_prompt(self, given: str) -> None:
        """For the next call: the vocabulary of the settings, and of what is ``given`` as much as fits beside it.

        whisper.cpp uses the prompt although ``no_context`` is set, which only clears that of the previous call.
        """
        prompt = self._params.initial_prompt = self._prompts.prompt(given).encode()
        # With more than one initial token, whisper.cpp 1.8.5 reads the probability of no speech from a row that an
        # earlier call left there.
        one_token = not prompt and not self._shape.multilingual
        self._params.no_speech_thold = self._no_speech_threshold if one_token else NO_THRESHOLD

    def _count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt. whisper.cpp's function counts them where it has no buffer to write to."""
        return abs(int(self._quick.whisper_tokenize(self._context, prompt.encode(), None, 0)))

    def _check(self, samples: NDArray[np.float32], language: str | None, positions: int) -> None:
        if self._state.closed:
            raise EngineError("the model is closed")
        if len(samples) > positions * SAMPLES_PER_POSITION:
            raise EngineError(
                f"{len(samples) / WHISPER_SAMPLE_RATE:g} s do not fit the context of {positions * TIME_STAMP_S:g} s"
            )
        if language is not None and self._shape.multilingual and not self.supports(language):
            raise EngineError(f"the model {self.name} has no language {language!r}")

    def _run(self, samples: NDArray[np.float32], positions: int, should_abort: Callable[[], bool]) -> tuple[int, float]:
        """Encode and decode: how often the decoder ran, and the seconds inside whisper."""
        # The end of the audio as whisper.cpp counts it, near which a time stamp ends the text.
        self._params.duration_ms = FRAME_MS * frames_within(len(samples))
        started_s = time.perf_counter()
        self._set_samples(samples, positions)
        asked = self._state.run(self._params, should_abort)
        return asked - 1, time.perf_counter() - started_s  # first it is asked after the encoder

    def _set_samples(self, samples: NDArray[np.float32], positions: int) -> None:
        """Fill the whole encoder context: whisper.cpp would fill the rest with zeros, which are not silence."""
        native_log.lines.clear()
        try:
            allocate_on_trial(self._call_bytes)  # in whisper.cpp, what is short would end the process
            spectrogram = self._mel(samples, 2 * positions)
        except (OSError, MemoryError) as error:
            raise EngineError(f"memory is short: {error}") from error
        self._state.set_mel(spectrogram)

    def _n_tokens(self) -> int:
        """Tokens of the result, with its end: the steps of the winning beam, where the decoder runs until all beams have ended."""
        return sum(1 for _ in self._state.tokens())

    def _tokens(self) -> Iterator[Token]:
        """The result's text and time stamps; other special tokens are left out."""
        for data in self._state.tokens():
            if data.id < self._end_of_text:
                yield Token(self._quick.whisper_token_to_str(self._context, data.id), data.plog)
            elif data.id >= self._first_time:
                yield Token(b"", 0.0, (data.id - self._first_time) * TIME_STAMP_S)

    def _language(self) -> str:
        if not self._shape.multilingual:
            return "en"
        return self._language_of(self._state.language())

    def _language_of(self, number: int) -> str:
        return str(self._quick.whisper_lang_str(number).decode())


def load_model(path: Path, settings: Settings) -> WhisperModel:
    """Check and load a model file. Blocks for as long as reading the file takes.

    Raises:
        ConfigError: ``WHISPER_PROMPT`` is longer than the model takes.
        ModelError: the file is not a whole Whisper model, or memory is short.
    """
    shape = check_model_file(path)
    check_memory(path, shape, settings.whisper_beam_size)
    capture_native_log()
    load_cpu_kernels(settings.whisper_kernels)
    started_s = time.perf_counter()
    model, device = load_on_device(path, shape, settings, partial(_load_on, path, shape, settings))
    model.device = device
    loading_s = time.perf_counter() - started_s
    log.debug("model %s loaded from %s in %.1f s, on %s", model.name, path, loading_s, device.name)
    return model


def _load_on(path: Path, shape: ModelShape, settings: Settings, gpu: int | None) -> WhisperModel:
    """The model on this GPU, as whisper.cpp counts them, or on the CPU. Raises as ``load_model``."""
    weights = Weights(path, use_gpu=gpu is not None, gpu_device=gpu or 0)
    mel = LogMel(read_mel_filters(path, shape))
    return WhisperModel(weights, shape, mel, model_name(path), CPU, settings)


def load_checked_model(path: Path, settings: Settings, device: Device | None = None) -> WhisperModel:
    """As ``load_model``, after a self-test of the kernels; logs which they are and what would be faster.

    ``device``: as another process has found it for these settings.

    Raises:
        ConfigError: as ``load_model``, or ``WHISPER_AUDIO_CTX`` is too tight for any but a model that was trained for it.
        ModelError: as ``load_model``, or the kernels compute wrongly.
    """
    if 0 < settings.audio_ctx < MIN_AUDIO_CTX and settings.whisper_audio_ctx != FORCED_AUDIO_CTX and path != DEMO_MODEL:
        raise ConfigError(
            f"WHISPER_AUDIO_CTX={settings.audio_ctx}: stock Whisper weights repeat themselves and lose words below"
            f" {MIN_AUDIO_CTX}; set auto, or {FORCED_AUDIO_CTX} for a model that was trained for it"
        )
    # The self-test's words are known for a model without a prompt.
    unprompted = settings.model_copy(update={"whisper_prompt": None, "whisper_device": "cpu"})
    check_kernels(path, lambda test_path: load_model(test_path, unprompted))
    if device:
        adopt(settings, device)
    model = load_model(path, settings)
    _log_kernels(path, model.device)
    return model


def kernel_features() -> frozenset[str]:
    """Features that whisper.cpp was built with; complete once a model was loaded."""
    return built_features(library().quick.whisper_print_system_info().decode())


@functools.cache
def _log_kernels(path: Path, device: Device) -> None:
    """Logged once, though every worker loads."""
    features = kernel_features()
    extra = {"model_file": str(path), "kernels": " ".join(sorted(features))}
    if device.description:
        extra["card"] = device.description
    log.info("whisper.cpp runs on %s", device.name, extra=extra)
    if device.kind == "cpu":
        for line in advice(check_model_file(path).ftype, features, processor_flags()):
            log.info("%s", line)


def _parameters(threads: int, beam_size: int) -> FullParameters:
    """One encoder run a window, no retry at a higher temperature, no state carried over."""
    beams = beam_size > 1
    params: FullParameters = library().quick.whisper_full_default_params(BEAM_SEARCH if beams else GREEDY)
    params.greedy.best_of = 1
    if beams:
        params.beam_search.beam_size = beam_size
    params.temperature = 0.0
    params.temperature_inc = 0.0
    params.single_segment = True
    params.no_context = True
    params.suppress_blank = True
    params.suppress_nst = True
    params.print_progress = params.print_realtime = params.print_timestamps = params.print_special = False
    params.n_threads = threads
    return params


def _padded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """At least a second, C-contiguous."""
    if len(samples) >= MIN_SAMPLES:
        return np.ascontiguousarray(samples, np.float32)
    padded = np.zeros(MIN_SAMPLES, np.float32)
    padded[: len(samples)] = samples
    return padded
