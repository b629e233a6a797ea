"""The settings: declared once here for environment, command line, help and documentation.

A field's name in capitals is its environment variable, in kebab case its flag (``NATS_URL``,
``--nats-url``); its description is its help text and its row in docs/settings.md. A flag beats the
environment, which beats the default. Only this module and ``telemetry`` read the environment
(OpenTelemetry's own ``OTEL_*``).
"""

import math
import os
import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from transcriber.audio.pcm import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
from transcriber.audio.vad.detector import THRESHOLD
from transcriber.audio.window import Cutting
from transcriber.errors import ConfigError
from transcriber.schema.languages import WHISPER_LANGUAGES, language_code

FORCED_AUDIO_CTX = "force:256"
MIN_AUDIO_CTX = 512
"""Encoder positions with which stock Whisper weights still know what they hear."""

FULL_AUDIO_CTX, POSITIONS_PER_SECOND, SPARE_POSITIONS = 1500, 50, 128
MAX_HEARD_S = (1280 - SPARE_POSITIONS) / POSITIONS_PER_SECOND
"""Of a window and what is heard before it. The whole 1500 positions are no multiple of 256."""

MIN_LEFT_CONTEXT_S = 1.0
"""Less helps nobody: half a second is what windows have of each other without."""

MAX_QUEUE_CAPACITY = 256
"""Windows: 256 of five seconds, with 7.5 s before each, are 205 MB of samples: enough for any sensible latency."""

MODEL_HUB = "https://huggingface.co/ggerganov/whisper.cpp/resolve/main"
MAX_DEFAULT_THREADS = 8
"""A window is too small a task for more; further cores are for further workers."""

MAX_BEAM_SIZE = 8
"""whisper.cpp has no more decoders."""

MAX_AGE_S = 10 * 365 * 86_400
"""Seconds: JetStream counts ages in nanoseconds and 64 bits."""

MAX_PARTITIONS = 1024

REQUEST_SUBJECT, SUBMIT_SUBJECT, CANCEL_SUBJECT = "transcriber.transcribe", "transcriber.submit", "transcriber.cancel"
JOB_SUBJECT, RECORD_SUBJECT = "transcriber.jobs", "transcriber.records"
"""Of the queue and of the records; and then the id of the job."""

STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBJECT_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


class Settings(BaseSettings):
    """Every setting of the daemon. Frozen; checked once, when it is made."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    nats_url: str = Field(
        "nats://127.0.0.1:4222", description="broker addresses, separated by commas; `tls://` for TLS"
    )
    nats_creds: Path | None = Field(None, description="credentials file (JWT and nkey seed)")
    nats_nkey_seed_file: Path | None = Field(None, description="file with an nkey seed")
    nats_tls_ca: Path | None = Field(None, description="CA certificate of the broker, PEM")
    nats_tls_cert: Path | None = Field(None, description="our certificate for mTLS, PEM")
    nats_tls_key: Path | None = Field(None, description="the key of our certificate, PEM")
    nats_connect_timeout_secs: float = Field(
        10.0, gt=0, le=600, description="seconds for the first connect; then status 3"
    )
    nats_inbox_prefix: str = Field(
        "_INBOX", description="subjects of the answers to our requests; one of our own, where permissions name it"
    )
    audio_subject: str = Field(
        "audio.*", description="subject of the audio: exactly one `*` as last token, or one stream by name"
    )
    transcript_subject_prefix: str = Field("transcripts", description="text goes out on `PREFIX.<stream>.<type>`")
    max_streams: int = Field(512, ge=1, le=100_000, description="streams at once; payloads of others are counted")
    durable: bool = Field(False, description="audio from JetStream, text stored: at least once in, exactly once out")
    backfill: bool = Field(
        False, description="live, with JetStream underneath: what was missed meanwhile is transcribed later"
    )
    provision: bool = Field(
        False, description="whether `serve` creates the JetStream streams and consumers that are missing"
    )
    audio_stream: str = Field("AUDIO", description="JetStream stream that keeps the audio")
    transcript_stream: str = Field("TRANSCRIPTS", description="JetStream stream that keeps the text")
    audio_max_age_secs: int = Field(
        3600, ge=1, le=MAX_AGE_S, description="seconds that audio is kept: how long all daemons may be away"
    )
    audio_max_bytes: int = Field(2**30, ge=2**20, le=2**50, description="bytes of audio kept; then the oldest goes")
    transcript_max_age_secs: int = Field(604_800, ge=1, le=MAX_AGE_S, description="seconds that text is kept")
    transcript_max_bytes: int = Field(2**30, ge=2**20, le=2**50, description="bytes of text kept; then the oldest goes")
    stream_replicas: Literal[1, 3, 5] = Field(1, description="brokers that keep a copy of both streams: 1, 3 or 5")
    partitions: int = Field(
        0, ge=0, le=MAX_PARTITIONS, description="parts that the streams are spread over, by name; 0 is off"
    )
    partition: int | None = Field(None, ge=0, description="the one part that this daemon serves; default: all")
    max_attempts: int = Field(
        5, ge=1, le=100, description="tries of a window, by one daemon or many, before it is a `gap`"
    )
    pending_bytes: int | None = Field(
        None, ge=65_536, description="bytes waiting in the NATS client; default 0.5 MB for one stream, 64 MB for `*`"
    )
    input_format: SampleFormat = Field(SampleFormat.S16LE, description="sample format where no header says")
    input_sample_rate: int = Field(
        48_000, ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE, description="Hz, where no header says"
    )
    input_channels: int = Field(1, ge=1, le=2, description="channels where no header says")
    speakers: Literal["mix", "channels"] = Field(
        "mix", description="two channels are mixed to one, or heard apart, each with its own windows and label"
    )
    target_sample_rate: Literal[16_000] = Field(16_000, description="Hz; whisper takes nothing else")
    buffer_duration_secs: float = Field(5.0, ge=0.5, le=30, description="seconds of the longest window")
    left_context_secs: float = Field(
        7.5,
        ge=0,
        le=25,
        description="seconds before a window that whisper hears, too, of which the text is known; 0: what is cut stays cut",
    )
    hold_back_secs: float = Field(
        0.5, ge=0, le=5, description="words so near to where a full window ends are left to the next one"
    )
    buffer_cut: Literal["quiet", "fixed"] = Field(
        "quiet", description="a full window is cut at the quietest place of its last 1.5 s, or right at its end"
    )
    speech_gate: bool = Field(True, description="keep windows without speech from whisper: `silence`")
    speech_threshold: float = Field(
        THRESHOLD, gt=0, lt=1, description="probability from which on 32 ms count as speech"
    )
    endpoint_silence_secs: float = Field(
        0.5, ge=0, le=10, description="seconds of silence that close a window early, if no other waits; 0 is off"
    )
    partial_interval_secs: float = Field(
        1.0,
        ge=0,
        le=30,
        description="seconds of new audio between `partial`s, while whisper is idle; 0: no partials, and nothing is heard ahead",
    )
    max_latency_secs: float = Field(20.0, gt=0, le=3600, description="L_max: seconds a window may wait")
    transcription_queue_capacity: int | None = Field(
        None,
        ge=1,
        le=MAX_QUEUE_CAPACITY,
        description="windows that may wait; default floor(L_max / (D x RTF)), followed",
    )
    service: bool = Field(True, description="answer requests on `transcriber.transcribe`")
    request_max_secs: float = Field(
        120.0, gt=0, le=3600, description="seconds of audio in one request; more is for the object store"
    )
    request_timeout_secs: float = Field(30.0, gt=0, le=3600, description="seconds in which a request is answered")
    files: bool = Field(False, description="work through whole files: jobs of `transcriber.submit`, by JetStream")
    file_window_secs: float = Field(
        25.0, ge=1, le=25.6, description="seconds of the longest window of a request or a file; cut at pauses"
    )
    file_max_bytes: int = Field(5 * 2**30, ge=1, le=2**50, description="bytes of the largest file that is taken")
    files_max_bytes: int = Field(8 * 2**30, ge=2**20, le=2**50, description="bytes of all files that wait in the store")
    file_max_age_secs: int = Field(
        604_800, ge=1, le=MAX_AGE_S, description="seconds that a file is kept if no job has removed it"
    )
    result_max_age_secs: int = Field(
        2_592_000, ge=1, le=MAX_AGE_S, description="seconds that results and records of jobs are kept"
    )
    max_hole_secs: float = Field(600.0, gt=0, description="seconds; a larger jump of `Audio-Offset` is passed over")
    whisper_model_path: Path | None = Field(None, description="a ggml model file; wins over `WHISPER_MODEL`")
    whisper_model: str | None = Field(
        None, description="a name such as `base.en`, fetched once; `demo`, bundled; or a folder, converted once"
    )
    whisper_model_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transcriber",
        description="where models are kept; default `~/.cache/transcriber`",
    )
    whisper_model_hub: str = Field(MODEL_HUB, description="URLs below which `ggml-NAME.bin` is found; comma-separated")
    whisper_threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="threads of one worker; default: the available cores, shared by the workers, at most 8",
    )
    whisper_workers: int = Field(1, ge=1, le=64, description="models loaded, each with a thread of its own")
    whisper_language: str = Field("auto", description="`auto`, or a code such as `en`; `auto` is `en` for `.en` models")
    whisper_languages: str = Field(
        "",
        description="the only ones that may be spoken, such as `en,de`: `auto` is one of them, and so is a header `Language`;"
        " default: all that the model knows",
    )
    whisper_prompt: str | None = Field(
        None,
        max_length=1000,
        description="names and terms of the trade, shown to whisper before every window; at most 223 tokens",
    )
    whisper_context: Literal["off", "prompt"] = Field(
        "off", description="`prompt` shows whisper the last sure text of the stream before each window"
    )
    second_pass: bool = Field(
        False,
        description="in time that is left over, speech that is over is heard again in one long window, and published as"
        " `revision` where that says it better",
    )
    whisper_audio_ctx: Literal["auto", "force:256"] | int = Field(
        "auto",
        description="encoder context: `auto` fits the window, 0 is the full 30 s, else a multiple of 256 from 512 on;"
        " `force:256` for a model that was trained for it",
    )
    whisper_beam_size: int = Field(
        1,
        ge=1,
        le=MAX_BEAM_SIZE,
        description="texts that the decoder follows at a time; 1 is greedy, more hear the same audio differently each time",
    )
    whisper_kernels: str = Field(
        "auto", description="set of kernels, in an image that has several; `auto` is the best one for the processor"
    )
    whisper_device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where whisper runs")
    stream_idle_secs: float = Field(30.0, gt=0, description="seconds without audio after which a session ends")
    heartbeat_timeout_secs: float = Field(
        5.0, gt=0, description="seconds without any payload: `stalled`; without audio: the open window is closed"
    )
    silence_timeout_secs: float = Field(30.0, gt=0, description="seconds of audio without a word: `silent`")
    shutdown_grace_secs: float = Field(0.2, ge=0, le=3600, description="seconds for what is queued at shutdown")
    health_host: str = Field("0.0.0.0", description="address of the probes")  # noqa: S104 - probes come from outside the pod
    health_port: int = Field(8080, ge=0, le=65_535, description="port of the probes; 0 is off")
    metrics_nats_secs: float = Field(10.0, ge=0, description="seconds between metrics messages on NATS; 0 is off")
    metrics_per_stream: bool = Field(False, description="`stream` as attribute of the OTLP metrics")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level logged")
    log_format: Literal["auto", "text", "json"] = Field("auto", description="`auto`: text on a terminal, else JSON")

    @field_validator("audio_subject")
    @classmethod
    def _one_wildcard_at_most(cls, value: str) -> str:
        *head, last = value.split(".")
        if not head or not all(map(SUBJECT_TOKEN.fullmatch, head)):
            raise ValueError("must be a literal prefix and one last token, such as audio.* or audio.radio-7")
        if last != "*" and not STREAM_NAME.fullmatch(last):
            raise ValueError("the last token must be * or a stream name ([A-Za-z0-9_-], at most 64)")
        return value

    @field_validator("audio_stream", "transcript_stream")
    @classmethod
    def _stream_name(cls, value: str) -> str:
        if not STREAM_NAME.fullmatch(value):
            raise ValueError("must be a name ([A-Za-z0-9_-], at most 64)")
        return value

    @field_validator("stream_replicas", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("transcript_subject_prefix", "nats_inbox_prefix")
    @classmethod
    def _literal_subject(cls, value: str) -> str:
        if not all(map(SUBJECT_TOKEN.fullmatch, value.split("."))):
            raise ValueError("must be a literal subject ([A-Za-z0-9_-], tokens separated by dots)")
        return value

    @field_validator("nats_url")
    @classmethod
    def _broker_addresses(cls, value: str) -> str:
        for url in value.split(","):
            try:
                parts = urlsplit(url.strip())
                good = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
            except ValueError:
                good = False
            if not good:
                raise ValueError("must be nats://host:port or tls://host:port, separated by commas")
        return value

    @field_validator("whisper_model_hub")
    @classmethod
    def _hub_addresses(cls, value: str) -> str:
        for url in value.split(","):
            try:
                parts = urlsplit(url.strip())
                good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
                good = good and parts.username is None
            except ValueError:
                good = False
            if not good:
                raise ValueError("must be http://host/path or https://host/path, separated by commas, no password")
        return value

    @field_validator("whisper_language")
    @classmethod
    def _language_code(cls, value: str) -> str:
        code = "auto" if value.lower() == "auto" else language_code(value)
        if code is None:
            raise ValueError("must be auto, a code such as en, or the English name of a language")
        return code

    @field_validator("whisper_languages")
    @classmethod
    def _language_codes(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        codes = [language_code(name) for name in names]
        if wrong := [name for name, code in zip(names, codes, strict=True) if code not in WHISPER_LANGUAGES]:
            raise ValueError(f"must be codes such as en,de, or English names of languages; Whisper has no {wrong[0]!r}")
        return ",".join(dict.fromkeys(code for code in codes if code))

    @field_validator("whisper_audio_ctx", mode="before")
    @classmethod
    def _audio_ctx(cls, value: Any) -> Any:
        if value in {"auto", FORCED_AUDIO_CTX}:
            return value
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else -1
        # Flash attention reads stale padding at any other value (whisper.cpp PR 3941).
        if value not in {0, 256, 512, 768, 1024, 1280, 1500}:
            raise ValueError("must be auto, 0, 1500 or a multiple of 256 below")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.nats_tls_cert is None) != (self.nats_tls_key is None):
            raise ValueError("NATS_TLS_CERT and NATS_TLS_KEY go together: set both or neither")
        if self.nats_creds and self.nats_nkey_seed_file:
            raise ValueError("NATS_CREDS and NATS_NKEY_SEED_FILE exclude each other")
        if self.whisper_language not in {"auto", *(self.languages or [self.whisper_language])}:
            raise ValueError(
                f"WHISPER_LANGUAGE={self.whisper_language!r} is not in WHISPER_LANGUAGES={self.whisper_languages!r}"
            )
        self._check_jetstream()
        if self.whisper_beam_size > 1 and (self.durable or self.files):
            raise ValueError(
                f"WHISPER_BEAM_SIZE={self.whisper_beam_size} and {'DURABLE' if self.durable else 'FILES'} exclude each other:"
                " beams hear the same audio differently each time, and what is tried again must be as it was"
            )
        if self.whisper_audio_ctx != "auto" and 0 < self.audio_ctx < 50 * self.buffer_duration_secs:
            raise ValueError(
                f"WHISPER_AUDIO_CTX={self.whisper_audio_ctx} is shorter than BUFFER_DURATION_SECS"
                f"={self.buffer_duration_secs:g}: 50 positions are one second"
            )
        return self

    def _check_jetstream(self) -> None:
        if self.durable and self.backfill:
            raise ValueError("DURABLE and BACKFILL exclude each other: durable mode waits for no later time")
        if self.audio_stream == self.transcript_stream:
            raise ValueError(
                f"AUDIO_STREAM and TRANSCRIPT_STREAM are both {self.audio_stream!r}: two streams, two names"
            )
        if self.audio_prefix == self.transcript_subject_prefix:
            raise ValueError(f"AUDIO_SUBJECT={self.audio_subject!r} lies under TRANSCRIPT_SUBJECT_PREFIX")
        if self.partition is None:
            return
        if self.partition >= self.partitions:
            raise ValueError(f"PARTITION={self.partition} must be less than PARTITIONS={self.partitions}")
        if not self.wildcard:
            raise ValueError(
                f"PARTITION and AUDIO_SUBJECT={self.audio_subject!r} exclude each other: one stream, no part"
            )
        if not self.jetstream:
            raise ValueError("PARTITION needs DURABLE=1 or BACKFILL=1: only JetStream knows the parts")

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of those that may be spoken; none: all that the model knows."""
        return tuple(self.whisper_languages.split(",")) if self.whisper_languages else ()

    @property
    def language(self) -> str | None:
        """What is spoken where no header says; None: to be detected."""
        if self.whisper_language != "auto":
            return self.whisper_language
        return self.languages[0] if len(self.languages) == 1 else None

    @property
    def input(self) -> AudioFormat:
        """The format of audio that comes without a ``Content-Type``."""
        return AudioFormat(self.input_format, self.input_sample_rate, self.input_channels)

    @property
    def cutting(self) -> Cutting:
        """How audio is cut into windows."""
        return Cutting(
            window_s=self.buffer_duration_secs,
            quiet=self.buffer_cut == "quiet",
            endpoint_s=self.endpoint_silence_secs,
            gate=self.speech_gate,
            threshold=self.speech_threshold,
            apart=self.speakers == "channels",
            afresh=self.jetstream,
            left_s=self.left_context_s,
        )

    @property
    def left_context_s(self) -> float:
        """Seconds before a window that are heard with it: as many as its encoder context has room for; 0 if that is none to speak of."""
        room_s = MAX_HEARD_S
        if self.whisper_audio_ctx != "auto" and self.audio_ctx:
            room_s = min(room_s, (self.audio_ctx - SPARE_POSITIONS) / POSITIONS_PER_SECOND)
        left_s = min(self.left_context_secs, room_s - self.buffer_duration_secs)
        return left_s if left_s >= MIN_LEFT_CONTEXT_S else 0.0

    @property
    def hold_back_s(self) -> float:
        """Seconds before the end of a full window whose words are left to the next one, which hears them again."""
        return min(self.hold_back_secs, self.left_context_s, self.buffer_duration_secs / 4)

    @property
    def wildcard(self) -> bool:
        """Whether this daemon serves more than one stream."""
        return self.audio_subject.endswith("*")

    @property
    def jetstream(self) -> bool:
        """Whether audio and text pass through JetStream."""
        return self.durable or self.backfill

    @property
    def audio_prefix(self) -> str:
        """``audio`` of ``audio.*`` and of ``audio.radio-7``."""
        return self.audio_subject.rpartition(".")[0]

    @property
    def pending_bytes_limit(self) -> int:
        """Bytes of audio that may wait in the NATS client before it drops."""
        return self.pending_bytes or (64 * 2**20 if self.wildcard else 2**19)

    @property
    def audio_ctx(self) -> int:
        """Encoder positions for one window, without what is heard before it; 0 is the full context."""
        if self.whisper_audio_ctx == FORCED_AUDIO_CTX:
            return int(FORCED_AUDIO_CTX.partition(":")[2])
        if isinstance(self.whisper_audio_ctx, int):
            return self.whisper_audio_ctx
        return fitting_positions(self.buffer_duration_secs)

    @property
    def threads(self) -> int:
        """Threads of one worker.

        None is kept for ingest: on two cores a worker with two threads does 7.2 windows of tiny.en a second, with one
        4.0; beside a busy process 3.2 and 4.0, beside two 3.0 and 2.8 (``bench.threads``; ``transcriber/engine/__init__.py``
        keeps the threads from spinning).
        """
        return self.whisper_threads or max(1, min(MAX_DEFAULT_THREADS, available_cores() // self.whisper_workers))

    def queue_capacity(self, rtf: float) -> int:
        """Windows that may wait: floor(L_max / (D x RTF)), from 1 to 256; the setting wins."""
        if self.transcription_queue_capacity is not None:
            return self.transcription_queue_capacity
        return queue_capacity(self.max_latency_secs, self.buffer_duration_secs, rtf)


def fitting_positions(duration_s: float) -> int:
    """Encoder positions for so many seconds: 50 a second, whole multiples of 256; 0 is the full context.

    128 positions are added because stock Whisper weights are known to repeat themselves when
    the context is as tight as the audio, and at 256 they do whatever the audio (``bench.contexts``).

    >>> fitting_positions(5.0), fitting_positions(12.5), fitting_positions(28.0)
    (512, 768, 0)
    """
    positions = max(MIN_AUDIO_CTX, 256 * math.ceil((POSITIONS_PER_SECOND * duration_s + SPARE_POSITIONS) / 256))
    return positions if positions < FULL_AUDIO_CTX else 0


def queue_capacity(max_latency_s: float, duration_s: float, rtf: float) -> int:
    """floor(L_max / (D x RTF)), at least 1 and at most 256 windows.

    >>> queue_capacity(20, 5, 0.8), queue_capacity(10, 5, 0.8), queue_capacity(60, 10, 1.0)
    (5, 2, 6)
    """
    # The tiny term keeps 20 / (5 * 0.8) at 5 where the product is a hair above 4.
    return max(1, min(MAX_QUEUE_CAPACITY, int(max_latency_s / (duration_s * rtf) + 1e-9)))


def available_cores() -> int:
    """Cores this process may use: affinity, and the CPU quota of its control group; at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def load_settings(**flags: Any) -> Settings:
    """Settings from the environment and ``flags`` (field name to value; None means not given).

    Raises:
        ConfigError: one line that names the variable, the value and what is allowed.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("; ".join(_one_line(e) for e in error.errors())) from None


def _one_line(error: Any) -> str:
    """One pydantic error as ``VARIABLE=value: what is allowed``."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name, value = str(error["loc"][0]).upper(), mask(str(error["input"]))
    allowed = message[:1].lower() + message[1:]
    return f"{name}={value!r}: {allowed}"


def mask(text: str) -> str:
    """``text`` with user names, passwords and tokens of URLs in it replaced by ``***``."""
    return re.sub(r"(?<=//)[^\s,]*@", "***@", text)


def settings_fields() -> dict[str, FieldInfo]:
    """Field name to its declaration, in the order of declaration."""
    return Settings.model_fields
