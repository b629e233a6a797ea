"""The settings: declared once, in ``fields``, for environment, command line, help and documentation.

A field's name in capitals is its environment variable, in kebab case its flag (``NATS_URL``,
``--nats-url``); its description is its help text and its row in the table of settings. A flag
overrides the environment, which overrides the default. Only this package and ``telemetry`` read the
environment (OpenTelemetry's own ``OTEL_*``).
"""

import re
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo

from transcriber.audio.format import AudioFormat
from transcriber.audio.window_policy import WindowPolicy
from transcriber.config.fields import SettingsFields
from transcriber.config.sizing import (
    FORCED_AUDIO_CTX,
    MAX_INPUT_S,
    POSITIONS_PER_SECOND,
    SPARE_POSITIONS,
    UNSURE_HOLD_BACK_S,
    available_cores,
    fitting_positions,
    queue_capacity,
)
from transcriber.errors import ConfigError

MIN_LEFT_CONTEXT_S = 1.0
"""Less is no use: without left context windows overlap by half a second."""

MOST_SHOWN = 200
"""Characters of a wrong value in the line that says so: what is allowed stands behind it."""

MAX_DEFAULT_THREADS = 8
"""A window is too small a task for more; further cores need further workers."""


class Settings(SettingsFields):
    """Every setting of the daemon. Frozen; checked once, when it is made."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.nats_tls_cert is None) != (self.nats_tls_key is None):
            raise ValueError("NATS_TLS_CERT and NATS_TLS_KEY go together: set both or neither")
        if (self.gateway_tls_cert is None) != (self.gateway_tls_key is None):
            raise ValueError("GATEWAY_TLS_CERT and GATEWAY_TLS_KEY go together: set both or neither")
        if self.nats_creds and self.nats_nkey_seed_file:
            raise ValueError("NATS_CREDS and NATS_NKEY_SEED_FILE exclude each other")
        if self.whisper_language not in {"auto", *(self.languages or [self.whisper_language])}:
            raise ValueError(
                f"WHISPER_LANGUAGE={self.whisper_language!r} is not in WHISPER_LANGUAGES={self.whisper_languages!r}"
            )
        self._check_jetstream()
        if self.config_bucket and self.config_file:
            raise ValueError("CONFIG_BUCKET and CONFIG_FILE exclude each other: live settings have one place")
        if self.whisper_beam_size > 1 and (self.durable or self.files):
            raise ValueError(
                f"WHISPER_BEAM_SIZE={self.whisper_beam_size} and {'DURABLE' if self.durable else 'FILES'} exclude each other:"
                " beam search gives the same audio different text each time, and a retry must give the same"
            )
        if self.whisper_processes not in {"auto", 0, self.whisper_workers} and self.whisper_workers > 1:
            raise ValueError(
                f"WHISPER_PROCESSES={self.whisper_processes} and WHISPER_WORKERS={self.whisper_workers} contradict each other:"
                " each process has one worker; leave WHISPER_WORKERS unset"
            )
        if self.whisper_audio_ctx != "auto" and 0 < self.audio_ctx < 50 * self.buffer_duration_secs:
            raise ValueError(
                f"WHISPER_AUDIO_CTX={self.whisper_audio_ctx} is shorter than BUFFER_DURATION_SECS"
                f"={self.buffer_duration_secs:g}: 50 positions are one second"
            )
        return self

    def _check_jetstream(self) -> None:
        if self.durable and self.backfill:
            raise ValueError(
                "DURABLE and BACKFILL exclude each other: durable mode drops nothing that could be filled in later"
            )
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
                f"PARTITION and AUDIO_SUBJECT={self.audio_subject!r} exclude each other: a single stream has no partition"
            )
        if not self.jetstream:
            raise ValueError("PARTITION needs DURABLE=1 or BACKFILL=1: partitions are JetStream subjects")

    @property
    def origins(self) -> list[str]:
        """``gateway_origins``, one by one."""
        return self.gateway_origins.split(",") if self.gateway_origins else []

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that may be spoken; empty: all that the model knows."""
        return tuple(self.whisper_languages.split(",")) if self.whisper_languages else ()

    @property
    def language(self) -> str | None:
        """The language of streams without a ``Language`` header; None: to be detected."""
        if self.whisper_language != "auto":
            return self.whisper_language
        return self.languages[0] if len(self.languages) == 1 else None

    def vocabulary(self, prompt: str) -> str:
        """Names and terms for one job, before the ``prompt`` of its publisher; those that cannot change are the model's own."""
        return f"{self.whisper_prompt or ''} {prompt}".strip() if self.live else prompt

    @property
    def for_model(self) -> "Settings":
        """What the model is loaded with: a prompt that may change is given with each job."""
        return self.model_copy(update={"whisper_prompt": None}) if self.live else self

    @property
    def input(self) -> AudioFormat:
        """The format of audio without a ``Content-Type``."""
        return AudioFormat(self.input_format, self.input_sample_rate, self.input_channels)

    @property
    def window_policy(self) -> WindowPolicy:
        """How audio is cut into windows."""
        return WindowPolicy(
            window_s=self.buffer_duration_secs,
            quiet_cut=self.buffer_cut == "quiet",
            endpoint_s=self.endpoint_silence_secs,
            speech_gate=self.speech_gate,
            speech_threshold=self.speech_threshold,
            split_channels=self.speakers == "channels",
            replayable=self.jetstream,
            left_context_s=self.left_context_s,
            always_detect=self.live,
        )

    @property
    def left_context_s(self) -> float:
        """Seconds before a window that are transcribed with it: as many as its encoder context has room for; 0 if those are too few."""
        room_s = MAX_INPUT_S
        if self.whisper_audio_ctx != "auto" and self.audio_ctx:
            room_s = min(room_s, (self.audio_ctx - SPARE_POSITIONS) / POSITIONS_PER_SECOND)
        left_s = min(self.left_context_secs, room_s - self.buffer_duration_secs)
        return left_s if left_s >= MIN_LEFT_CONTEXT_S else 0.0

    @property
    def hold_back_s(self) -> float:
        """Seconds before the end of a full window whose words are left to the next one, which includes them again."""
        return min(self.hold_back_secs, self.left_context_s, self.buffer_duration_secs / 4)

    @property
    def most_held_back_s(self) -> float:
        """The same for words of which whisper is unsure; 0 if none are left to the next one."""
        hold_back_s = self.hold_back_s
        unsure_s = min(UNSURE_HOLD_BACK_S, self.left_context_s, self.buffer_duration_secs / 2)
        return max(hold_back_s, unsure_s) if hold_back_s else 0.0

    @property
    def wildcard(self) -> bool:
        """Whether this daemon serves more than one stream."""
        return self.audio_subject.endswith("*")

    @property
    def live(self) -> bool:
        """Whether some settings may change while the daemon runs."""
        return bool(self.config_bucket or self.config_file)

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
        """Encoder positions for one window without its left context; 0 is the full context."""
        if self.whisper_audio_ctx == FORCED_AUDIO_CTX:
            return int(FORCED_AUDIO_CTX.partition(":")[2])
        if isinstance(self.whisper_audio_ctx, int):
            return self.whisper_audio_ctx
        return fitting_positions(self.buffer_duration_secs)

    @property
    def threads(self) -> int:
        """Threads of one worker.

        No core is reserved for ingest: on two cores a worker with two threads does 7.2 windows of tiny.en a second, with one
        4.0; beside a busy process 3.2 and 4.0, beside two 3.0 and 2.8 (``bench.threads``; ``transcriber/engine/__init__.py``
        keeps the threads from spinning).
        """
        return self.whisper_threads or max(1, min(MAX_DEFAULT_THREADS, available_cores() // self.whisper_workers))

    def on_device(self, kind: str) -> "Settings":
        """With numbers in place of what depends on where whisper runs: ``cpu``, or another kind of device."""
        processes = self.whisper_processes
        if processes == "auto":
            processes = 0 if kind == "cpu" else self.whisper_workers
        return self.model_copy(
            update={"whisper_processes": processes, "whisper_workers": processes or self.whisper_workers}
        )

    def queue_capacity(self, rtf: float) -> int:
        """Windows that may be queued: the setting, or floor(L_max / (D x RTF)), from 1 to 256."""
        if self.transcription_queue_capacity is not None:
            return self.transcription_queue_capacity
        return queue_capacity(self.max_latency_secs, self.buffer_duration_secs, rtf)


def load_settings(**flags: Any) -> Settings:
    """Settings from the environment and ``flags`` (field name to value; None means not given).

    Raises:
        ConfigError: one line that names the variable, the value and what is allowed.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("; ".join(map(one_line, error.errors()))) from None


def one_line(error: Any) -> str:
    """One pydantic error as ``VARIABLE=value: what is allowed``."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name, value = str(error["loc"][0]).upper(), mask(str(error["input"]))
    if len(value) > MOST_SHOWN:
        value = f"{value[:MOST_SHOWN]}..."
    allowed = message[:1].lower() + message[1:]
    return f"{name}={value!r}: {allowed}"


def access_to(url: str) -> dict[str, Any]:
    """Fields that open the broker at ``url`` and are of no other: neither its credentials nor its certificates."""
    unset = {name: field.default for name, field in Settings.model_fields.items() if name.startswith("nats_")}
    return unset | {"nats_url": url}


def mask(text: str) -> str:
    """``text`` with user names, passwords and tokens of URLs in it replaced by ``***``."""
    return re.sub(r"(?<=//)[^\s,]*@", "***@", text)


def settings_fields() -> dict[str, FieldInfo]:
    """Field name to its declaration, in the order of declaration."""
    return Settings.model_fields
