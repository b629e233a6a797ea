"""whisper.cpp: a loaded model.

In: windows of samples. Out: transcripts. The low-level binding is called, because the wrapper around
it ignores the return code: a call that failed or was aborted would look like silence.

A window costs one encoder run at the context that fits it, and one decoder run a token; the spectrogram is
ours (``mel.py``).
"""

import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _pywhispercpp as binding
import numpy as np
from numpy.typing import NDArray

from transcriber.config import Settings
from transcriber.config.sizing import FORCED_AUDIO_CTX, MIN_AUDIO_CTX
from transcriber.engine.hallucination import doubt
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.transcript import Transcript
from transcriber.engine.whisper.encoder_context import SAMPLES_PER_POSITION, EncoderContext
from transcriber.engine.whisper.kernels import advice, built_features, load_kernels, processor_flags
from transcriber.engine.whisper.mel import LogMel, frames_within
from transcriber.engine.whisper.memory import check_memory
from transcriber.engine.whisper.native_log import LOG_ERROR, capture_native_log, native_log
from transcriber.engine.whisper.prompt_budget import PromptBudget
from transcriber.engine.whisper.self_test import check_kernels
from transcriber.engine.whisper.word_timing import Token, clean_text, join_words, phrases
from transcriber.errors import ConfigError, EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL, model_name
from transcriber.models.ggml import ModelShape, check_model_file, read_mel_filters
from transcriber.schema.languages import FEW_TOKENS, WHISPER_LANGUAGES, WITHOUT_SPACES

log = logging.getLogger(__name__)

FRAME_MS = 10
NO_SAMPLES = np.zeros(0, np.float32)
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

BINDING_ERRORS = (RuntimeError, MemoryError, ValueError, IndexError)
"""C++ exceptions, as the binding raises them."""


class WhisperModel:
    """A loaded model with its one state. Worker thread only; ``close`` while no call is running.

    Attributes:
        name: as it stands in transcripts.
        device: ``cpu`` or ``cuda``: where it really runs.
        tight: whether a second run would have more than the usual encoder context.
        translates: whether it can translate other languages into English.
    """

    def __init__(
        self, context: Any, shape: ModelShape, mel: LogMel, name: str, device: str, settings: Settings
    ) -> None:
        self.name = name
        self.device = device
        self._context = context
        self._shape = shape
        self._mel = mel
        self._encoder_context = EncoderContext(settings, shape.n_audio_ctx)
        self.tight = self._encoder_context.tight
        self.translates = shape.multilingual
        self._beams = settings.whisper_beam_size
        self._greedy = self._params = _parameters(settings.threads, 1)
        self._with_beams = _parameters(settings.threads, self._beams)
        self._candidates = [
            one for one in WHISPER_LANGUAGES if self.supports(one) and one in (settings.languages or WHISPER_LANGUAGES)
        ]
        self._end_of_text = binding.whisper_token_eot(context)
        self._first_time = binding.whisper_token_beg(context)
        self._no_speech_threshold = self._params.no_speech_thold
        # One of the tokens that whisper.cpp leaves for a prompt marks its start.
        self._prompts = PromptBudget(settings.whisper_prompt or "", shape.n_text_ctx // 2 - 1, self._count_tokens)
        if self._prompts.vocabulary_tokens > self._prompts.max_tokens:
            binding.whisper_free(context)  # there is no model to close
            raise ConfigError(
                f"WHISPER_PROMPT is {self._prompts.vocabulary_tokens} tokens long;"
                f" the model {name} takes at most {self._prompts.max_tokens}"
            )

    def supports(self, language: str) -> bool:
        """Whether the model has this language, an ISO 639-1 code (``yue`` and ``haw`` as Whisper has them)."""
        if not self._shape.multilingual:
            return language == "en"
        number = binding.whisper_lang_id(language)
        # whisper.cpp also takes "german" for "de", and knows languages that older models lack.
        return 0 <= number < self._shape.n_languages and bool(binding.whisper_lang_str(number) == language)

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
            detected = self.detect(samples)
            language = detected.likeliest
        few = language in FEW_TOKENS or not self._shape.multilingual
        beams = self._beams > 1 and not greedy
        self._params = self._with_beams if beams else self._greedy
        per_second = TOKENS_PER_SECOND if few else MANY_TOKENS_PER_SECOND
        max_tokens = max(MIN_TOKENS, math.ceil(per_second * len(samples) / WHISPER_SAMPLE_RATE))
        self._params.language = language if self._shape.multilingual else "en"
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
            no_speech_prob=None,  # see _set_prompt: a wrong row's, and the binding does not expose it
            processing_s=processing_s + (detected.processing_s if detected else 0.0),
            wide=wide,
            doubt=doubt([token.raw for token in spoken], avg_logprob, steps=steps, max_steps=max_tokens),
            phrases=phrases(tokens, len(samples) / WHISPER_SAMPLE_RATE),
        )

    def detect(self, samples: NDArray[np.float32]) -> LanguageProbabilities:
        """See ``MultilingualModel.detect``. At the usual context, at which detection is as good as at a wide one."""
        if not self._shape.multilingual:
            return LanguageProbabilities({}, 0.0)
        if len(self._candidates) == 1:
            return LanguageProbabilities({self._candidates[0]: 1.0}, 0.0)
        positions = self._encoder_context.usual(len(samples))
        self._check(samples, None, positions)
        # whisper.cpp detects at the context of the previous call: make one that does nothing but set it.
        self._params.language, self._params.initial_prompt, self._params.audio_ctx = "en", "", positions
        started_s = time.perf_counter()
        self._set_samples(_padded(samples), positions)
        self._params.duration_ms = NOTHING_MS
        probabilities = np.zeros(binding.whisper_lang_max_id() + 1, np.float32)
        try:
            code = binding.whisper_full(self._context, self._params, NO_SAMPLES, 0)
            if not code:
                code = min(0, binding.whisper_lang_auto_detect(self._context, 0, self._params.n_threads, probabilities))
        except BINDING_ERRORS as error:
            raise EngineError(f"whisper.cpp: {error}") from error
        if code:
            raise EngineError(f"{native_log.first_error() or 'failed'} (whisper.cpp returned {code})", return_code=code)
        found = {one: float(probabilities[binding.whisper_lang_id(one)]) for one in self._candidates}
        whole = sum(found.values()) or 1.0
        return LanguageProbabilities(
            {one: share / whole for one, share in found.items()}, time.perf_counter() - started_s
        )

    def close(self) -> None:
        """Free the model's memory; it cannot be used afterwards."""
        context, self._context = self._context, None
        if context is not None:
            binding.whisper_free(context)

    def _set_prompt(self, said: str) -> None:
        """For the next call: the vocabulary of the settings, and of what was ``said`` as much as fits beside it.

        whisper.cpp uses the prompt although ``no_context`` is set, which only clears that of the previous call. The
        binding keeps a copy of the string for as long as the parameters live.
        """
        prompt = self._params.initial_prompt = self._prompts.prompt(said)
        # With more than one initial token, whisper.cpp 1.8.5 reads the probability of no speech from a row that an
        # earlier call left there.
        one_token = not prompt and not self._shape.multilingual
        self._params.no_speech_thold = self._no_speech_threshold if one_token else NO_THRESHOLD

    def _count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt. whisper.cpp's function counts them where it has no buffer to write to."""
        return abs(int(binding.whisper_tokenize(self._context, prompt, 0, 0)))

    def _check(self, samples: NDArray[np.float32], language: str | None, positions: int) -> None:
        if self._context is None:
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
        calls = 0

        def counted() -> bool:
            nonlocal calls
            calls += 1
            return should_abort()

        binding.assign_abort_callback(self._params, counted)
        started_s = time.perf_counter()
        try:
            self._set_samples(samples, positions)
            code = binding.whisper_full(self._context, self._params, NO_SAMPLES, 0)
        except BINDING_ERRORS as error:
            raise EngineError(f"whisper.cpp: {error}") from error
        finally:
            processing_s = time.perf_counter() - started_s
            binding.clear_abort_callback(self._params)
        if code:
            reason = "aborted" if should_abort() else native_log.first_error() or "failed"
            raise EngineError(f"{reason} (whisper.cpp returned {code})", return_code=code)
        return calls - 1, processing_s  # the first call is after the encoder

    def _set_samples(self, samples: NDArray[np.float32], positions: int) -> None:
        """Fill the whole encoder context: whisper.cpp would fill the rest with zeros, which are not silence."""
        native_log.lines.clear()
        frames = 2 * positions
        spectrogram = self._mel(samples, frames).ravel()
        try:
            code = binding.whisper_set_mel(self._context, spectrogram, frames, self._shape.n_mels)
        except BINDING_ERRORS as error:
            raise EngineError(f"whisper.cpp: {error}") from error
        if code:
            raise EngineError(f"{native_log.first_error() or 'failed'} (whisper.cpp returned {code})", return_code=code)

    def _n_tokens(self) -> int:
        """Tokens of the result, with its end: the steps of the winning beam, where the decoder runs until all beams have ended."""
        segments = range(binding.whisper_full_n_segments(self._context))
        return sum(binding.whisper_full_n_tokens(self._context, segment) for segment in segments)

    def _tokens(self) -> Iterator[Token]:
        """The result's text and time stamps; other special tokens are left out."""
        for segment in range(binding.whisper_full_n_segments(self._context)):
            for index in range(binding.whisper_full_n_tokens(self._context, segment)):
                data = binding.whisper_full_get_token_data(self._context, segment, index)
                if data.id < self._end_of_text:
                    yield Token(binding.whisper_token_to_bytes(self._context, data.id), data.plog)
                elif data.id >= self._first_time:
                    yield Token(b"", 0.0, (data.id - self._first_time) * TIME_STAMP_S)

    def _language(self) -> str:
        if not self._shape.multilingual:
            return "en"
        return str(binding.whisper_lang_str(binding.whisper_full_lang_id(self._context)))


def load_model(path: Path, settings: Settings) -> WhisperModel:
    """Check and load a model file. Blocks for as long as reading the file takes.

    Raises:
        ConfigError: ``WHISPER_PROMPT`` is longer than the model takes.
        ModelError: the file is not a whole Whisper model, or memory is short.
    """
    shape = check_model_file(path)
    check_memory(path, shape, settings.whisper_beam_size)
    capture_native_log()
    _load_kernels(settings.whisper_kernels)
    native_log.lines.clear()
    params = binding.whisper_context_default_params()
    params.use_gpu = settings.whisper_device != "cpu"
    params.flash_attn = True
    started_s = time.perf_counter()
    try:
        context = binding.whisper_init_from_file_with_params(os.fsencode(path), params)
    except BINDING_ERRORS as error:
        raise ModelError(f"{path}: whisper.cpp cannot load it: {error}") from error
    # After a failure the context is a null pointer that Python cannot see, and any use of it a segmentation fault;
    # but every such path logs an error from one of the whisper_init functions.
    if any(level == LOG_ERROR and text.startswith("whisper_init") for level, text in native_log.lines):
        raise ModelError(f"{path}: whisper.cpp cannot load it: {native_log.first_error()}")
    device = "cuda" if any("using CUDA" in text for _, text in native_log.lines) else "cpu"
    if settings.whisper_device == "cuda" and device == "cpu":
        log.warning("WHISPER_DEVICE=cuda, but whisper.cpp has no CUDA or found no such device: it runs on the CPU")
    mel = LogMel(read_mel_filters(path, shape))
    model = WhisperModel(context, shape, mel, model_name(path), device, settings)
    log.debug("model %s loaded from %s in %.1f s, on %s", model.name, path, time.perf_counter() - started_s, device)
    return model


def load_checked_model(path: Path, settings: Settings) -> WhisperModel:
    """As ``load_model``, after a self-test of the kernels; logs which they are and what would be faster.

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
    unprompted = settings.model_copy(update={"whisper_prompt": None})
    check_kernels(path, lambda test_path: load_model(test_path, unprompted))
    model = load_model(path, settings)
    _log_kernels(path, model.device)
    return model


def kernel_features() -> frozenset[str]:
    """Features that whisper.cpp was built with; complete once a model was loaded."""
    return built_features(str(binding.whisper_print_system_info()))


@functools.cache
def _log_kernels(path: Path, device: str) -> None:
    """Logged once, though every worker loads."""
    features = kernel_features()
    log.info("whisper.cpp runs on %s", device, extra={"model_file": str(path), "kernels": " ".join(sorted(features))})
    if device == "cpu":
        for line in advice(check_model_file(path).ftype, features, processor_flags()):
            log.info("%s", line)


_loading = threading.Lock()


@functools.cache
def _load_kernels_once(chosen: str) -> None:
    load_kernels(Path(binding.__file__).parent, chosen)


def _load_kernels(chosen: str) -> None:
    with _loading:  # several workers load at the same time
        _load_kernels_once(chosen)


def _parameters(threads: int, beam_size: int) -> Any:
    """One encoder run a window, no retry at a higher temperature, no state carried over."""
    beams = beam_size > 1
    params = binding.whisper_full_default_params(
        binding.WHISPER_SAMPLING_BEAM_SEARCH if beams else binding.WHISPER_SAMPLING_GREEDY
    )
    params.greedy = {"best_of": 1}
    if beams:
        params.beam_search = {"beam_size": beam_size, "patience": -1.0}
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
    """At least a second, C-contiguous: the binding reads strided arrays as if they were dense."""
    if len(samples) >= MIN_SAMPLES:
        return np.ascontiguousarray(samples, np.float32)
    padded = np.zeros(MIN_SAMPLES, np.float32)
    padded[: len(samples)] = samples
    return padded
