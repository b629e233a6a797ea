"""The declarations of all settings: name, type, range, default and description."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from transcriber.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SampleFormat
from transcriber.audio.vad import THRESHOLD
from transcriber.config.checks import (
    MAX_WORKERS,
    check_audio_subject,
    check_broker_addresses,
    check_bucket_name,
    check_context_name,
    check_device,
    check_hub_addresses,
    check_literal_subject,
    check_origins,
    check_stream_name,
    to_audio_ctx,
    to_language_code,
    to_language_codes,
    to_processes,
    to_upper_case,
    to_whole_number,
)
from transcriber.config.sizing import MAX_QUEUE_CAPACITY

MODEL_HUB = "https://huggingface.co/ggerganov/whisper.cpp/resolve/main"

MAX_BEAM_SIZE = 8
"""whisper.cpp has no more decoders."""

MAX_AGE_S = 10 * 365 * 86_400
"""Seconds: JetStream counts ages in nanoseconds and 64 bits."""

MAX_PARTITIONS = 1024


class SettingsFields(BaseSettings):
    """Every setting of the daemon, each checked by itself."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    nats_url: Annotated[str, AfterValidator(check_broker_addresses)] = Field(
        "nats://127.0.0.1:4222", description="broker addresses, separated by commas; `tls://` for TLS"
    )
    nats_context: Annotated[str, AfterValidator(check_context_name)] | None = Field(
        None,
        description="context of the `nats` tool that names broker and credentials, or `@selected`; whatever other `NATS_*`"
        " is set wins over it",
    )
    nats_creds: Path | None = Field(None, description="credentials file (JWT and nkey seed)")
    nats_nkey_seed_file: Path | None = Field(None, description="file with an nkey seed")
    nats_tls_ca: Path | None = Field(None, description="CA certificate of the broker, PEM")
    nats_tls_cert: Path | None = Field(None, description="client certificate for mTLS, PEM")
    nats_tls_key: Path | None = Field(None, description="private key of the client certificate, PEM")
    nats_connect_timeout_secs: float = Field(
        10.0, gt=0, le=600, description="seconds to wait for the first connection; then exit status 3"
    )
    nats_inbox_prefix: Annotated[str, AfterValidator(check_literal_subject)] = Field(
        "_INBOX", description="prefix of reply subjects; set it where the broker's permissions name one"
    )
    audio_subject: Annotated[str, AfterValidator(check_audio_subject)] = Field(
        "audio.*", description="subject of the audio: one `*` as its last token, or the name of one stream"
    )
    transcript_subject_prefix: Annotated[str, AfterValidator(check_literal_subject)] = Field(
        "transcripts", description="transcripts are published on `PREFIX.<stream>.<type>`"
    )
    max_streams: int = Field(
        512,
        ge=1,
        le=100_000,
        description="streams served at once; payloads of further ones are dropped and counted, or wait in JetStream",
    )
    durable: bool = Field(
        False, description="read audio from JetStream and store transcripts: at least once in, exactly once out"
    )
    backfill: bool = Field(False, description="live mode over JetStream: dropped audio is transcribed later")
    provision: bool = Field(False, description="let `serve` create missing JetStream streams and consumers")
    audio_stream: Annotated[str, AfterValidator(check_stream_name)] = Field(
        "AUDIO", description="JetStream stream that stores the audio"
    )
    transcript_stream: Annotated[str, AfterValidator(check_stream_name)] = Field(
        "TRANSCRIPTS", description="JetStream stream that stores the transcripts"
    )
    audio_max_age_secs: int = Field(
        3600,
        ge=1,
        le=MAX_AGE_S,
        description="seconds that audio is kept: the longest outage of all daemons without loss",
    )
    audio_max_bytes: int = Field(
        2**30, ge=2**20, le=2**50, description="bytes of audio kept; beyond that the oldest is deleted"
    )
    transcript_max_age_secs: int = Field(604_800, ge=1, le=MAX_AGE_S, description="seconds that transcripts are kept")
    transcript_max_bytes: int = Field(
        2**30, ge=2**20, le=2**50, description="bytes of transcripts kept; beyond that the oldest is deleted"
    )
    stream_replicas: Annotated[Literal[1, 3, 5], BeforeValidator(to_whole_number)] = Field(
        1, description="copies of both streams, on as many brokers: 1, 3 or 5"
    )
    partitions: int = Field(
        0, ge=0, le=MAX_PARTITIONS, description="partitions that streams are assigned to, by name; 0 is off"
    )
    partition: int | None = Field(None, ge=0, description="the one partition that this daemon serves; default: all")
    max_attempts: int = Field(
        5, ge=1, le=100, description="attempts at a window, over all daemons, before it becomes a `gap`"
    )
    pending_bytes: int | None = Field(
        None,
        ge=65_536,
        description="bytes that may be pending in the NATS client; default 0.5 MB for one stream, 64 MB for `*`",
    )
    input_format: SampleFormat = Field(
        SampleFormat.S16LE, description="sample format of payloads without a `Content-Type`"
    )
    input_sample_rate: int = Field(
        48_000, ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE, description="Hz, of payloads without a `Content-Type`"
    )
    input_channels: int = Field(1, ge=1, le=2, description="channels of payloads without a `Content-Type`")
    speakers: Literal["mix", "channels", "voices"] = Field(
        "mix",
        description="`mix`: two channels are mixed to one; `channels`: each is transcribed by itself, with its own"
        " windows and label; `voices`: mixed to one, and each word labelled by the voice that says it, of streams and files",
    )
    target_sample_rate: Literal[16_000] = Field(16_000, description="Hz; the only rate that whisper accepts")
    buffer_duration_secs: float = Field(5.0, ge=0.5, le=30, description="seconds of the longest window")
    left_context_secs: float = Field(
        7.5,
        ge=0,
        le=25,
        description="seconds of audio before each window that whisper is given again, as left context; 0 is off",
    )
    hold_back_secs: float = Field(
        0.5,
        ge=0,
        le=5,
        description="words within so many seconds of the end of a full window are left to the next one, unless a pause follows; "
        "of those of which whisper is unsure up to 2.5 s; 0 is off",
    )
    buffer_cut: Literal["quiet", "fixed"] = Field(
        "quiet",
        description="where a full window is cut: at the quietest place of its last 1.5 s, or (`fixed`) at its end",
    )
    speech_gate: bool = Field(
        True, description="do not run whisper on windows without speech; they are published as `silence`"
    )
    speech_threshold: float = Field(
        THRESHOLD, gt=0, lt=1, description="probability from which on a frame of 32 ms counts as speech"
    )
    endpoint_silence_secs: float = Field(
        0.5, ge=0, le=10, description="seconds of silence that close a window early, while no other is queued; 0 is off"
    )
    partial_interval_secs: float = Field(
        1.0,
        ge=0,
        le=30,
        description="seconds of new audio between `partial`s, while whisper is idle; 0: no partials, and no window is"
        " transcribed before its end is certain",
    )
    max_latency_secs: float = Field(
        20.0, gt=0, le=3600, description="L_max: seconds that a window may wait in the queue"
    )
    transcription_queue_capacity: int | None = Field(
        None,
        ge=1,
        le=MAX_QUEUE_CAPACITY,
        description="windows that may be queued; default floor(L_max / (D x RTF)), adjusted as the measured RTF changes",
    )
    service: bool = Field(True, description="answer requests on `transcriber.transcribe`")
    admin_requests: bool = Field(
        True, description="answer admin requests on `transcriber.admin`, such as `transcriber admin swap`"
    )
    request_max_secs: float = Field(
        120.0, gt=0, le=3600, description="seconds of audio in one request; longer audio goes through the object store"
    )
    request_timeout_secs: float = Field(30.0, gt=0, le=3600, description="seconds within which a request is answered")
    files: bool = Field(
        False, description="transcribe whole files: jobs submitted to `transcriber.submit`, queued in JetStream"
    )
    file_window_secs: float = Field(
        25.0, ge=1, le=25.6, description="seconds of the longest window of a request or a file; cut at pauses"
    )
    file_max_bytes: int = Field(5 * 2**30, ge=1, le=2**50, description="bytes of the largest file that is accepted")
    files_max_bytes: int = Field(8 * 2**30, ge=2**20, le=2**50, description="bytes of all files in the object store")
    file_max_age_secs: int = Field(
        604_800, ge=1, le=MAX_AGE_S, description="seconds after which a file is deleted if no job has removed it"
    )
    result_max_age_secs: int = Field(
        2_592_000, ge=1, le=MAX_AGE_S, description="seconds that results and job records are kept"
    )
    audit: bool = Field(
        False,
        description="store who submitted, cancelled, purged, swapped and, through the gateway, read what; never what was said",
    )
    audit_stream: Annotated[str, AfterValidator(check_stream_name)] = Field(
        "AUDIT", description="JetStream stream that stores the audit entries"
    )
    audit_max_age_secs: int = Field(31_536_000, ge=1, le=MAX_AGE_S, description="seconds that audit entries are kept")
    audit_max_bytes: int = Field(
        2**28, ge=2**20, le=2**50, description="bytes of audit entries kept; beyond that the oldest is deleted"
    )
    config_bucket: Annotated[str, AfterValidator(check_bucket_name)] = Field(
        "", description="JetStream key-value bucket of settings that may change while the daemon runs; default: none"
    )
    config_file: Path | None = Field(None, description="file with the same settings, TOML, read again when it changes")
    max_hole_secs: float = Field(600.0, gt=0, description="seconds; a larger jump of `Audio-Offset` is ignored")
    whisper_model_path: Path | None = Field(None, description="ggml model file; overrides `WHISPER_MODEL`")
    whisper_model: str | None = Field(
        None,
        description="model name such as `base.en`, downloaded once; `demo`, the bundled one; or a model's folder,"
        " converted once",
    )
    whisper_model_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transcriber",
        description="folder for downloaded and converted models; default `~/.cache/transcriber`",
    )
    whisper_model_hub: Annotated[str, AfterValidator(check_hub_addresses)] = Field(
        MODEL_HUB, description="base URLs of `ggml-NAME.bin`, separated by commas"
    )
    whisper_threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="threads of one worker; default: the available cores, shared by the workers, at most 8",
    )
    whisper_workers: int = Field(
        1,
        ge=1,
        le=MAX_WORKERS,
        description="workers, each with a thread and a state of its own over one copy of the model in memory; whisper.cpp does"
        " not batch, so each runs its own encoder",
    )
    whisper_processes: Annotated[Literal["auto"] | int, BeforeValidator(to_processes)] = Field(
        "auto",
        description="workers whose model is in a process of its own, which is started again if it dies: so many instead of"
        " `WHISPER_WORKERS`; 0: none; `auto`: none on the CPU, each worker on a GPU",
    )
    whisper_language: Annotated[str, AfterValidator(to_language_code)] = Field(
        "auto", description="`auto`, or a code such as `en`; `auto` is `en` for `.en` models"
    )
    whisper_languages: Annotated[str, AfterValidator(to_language_codes)] = Field(
        "",
        description="languages that may be spoken, such as `en,de`: `auto` detects one of these, and a `Language` header"
        " must name one; default: all that the model knows",
    )
    whisper_prompt: str | None = Field(
        None,
        max_length=1000,
        description="names and terms that whisper is given as a prompt before every window; at most 223 tokens",
    )
    whisper_context: Literal["off", "prompt"] = Field(
        "off", description="`prompt`: whisper is also given the last confident text of the stream as a prompt"
    )
    second_pass: bool = Field(
        False,
        description="while whisper is idle, transcribe finished speech again in one long window, and publish a"
        " `revision` where that is better",
    )
    whisper_audio_ctx: Annotated[Literal["auto", "force:256"] | int, BeforeValidator(to_audio_ctx)] = Field(
        "auto",
        description="encoder context: `auto` fits the window, 0 is the full 30 s, else a multiple of 256 from 512 on;"
        " `force:256` for a model that was trained for it",
    )
    whisper_beam_size: int = Field(
        1,
        ge=1,
        le=MAX_BEAM_SIZE,
        description="beam size of the decoder; 1 is greedy, with more the same audio gives different text each time",
    )
    whisper_kernels: str = Field(
        "auto", description="set of kernels, in an image that has several; `auto` is the best one for the processor"
    )
    whisper_device: Annotated[str, AfterValidator(check_device)] = Field(
        "auto",
        description="where whisper runs: `cpu`; `cuda`, the first GPU, or `cuda:1` another one, and the CPU with a warning where"
        " that cannot be used; `auto`: the first GPU, if there is one that works",
    )
    stream_idle_secs: float = Field(30.0, gt=0, description="seconds without audio after which a session ends")
    heartbeat_timeout_secs: float = Field(
        5.0,
        gt=0,
        description="seconds without any payload until a stream is `stalled`; without audio, until its open window is closed",
    )
    silence_timeout_secs: float = Field(
        30.0, gt=0, description="seconds of audio without a word until a stream is `silent`"
    )
    shutdown_grace_secs: float = Field(0.2, ge=0, le=3600, description="seconds to finish queued windows at shutdown")
    health_host: str = Field("0.0.0.0", description="address of the health probes")  # noqa: S104 - probes come from outside the pod
    health_port: int = Field(8080, ge=0, le=65_535, description="port of the health probes; 0 is off")
    metrics_nats_secs: float = Field(10.0, ge=0, description="seconds between metrics messages on NATS; 0 is off")
    metrics_per_stream: bool = Field(False, description="add `stream` as an attribute to the OTLP metrics")
    stream_status_secs: float = Field(
        1.0,
        ge=0,
        description="seconds between messages with the state of all streams, while anything changes; 0 is off",
    )
    gateway_host: str = Field("127.0.0.1", description="address of the gateway; any but a loopback one needs keys")
    gateway_port: int = Field(
        8000, ge=0, le=65_535, description="port of the gateway; 0: any free one, which is logged"
    )
    gateway_keys_file: Path | None = Field(
        None, description="file with the gateway's keys, by their hashes, TOML; without one it answers everybody"
    )
    gateway_origins: Annotated[str, AfterValidator(check_origins)] = Field(
        "", description="origins of pages that may use the gateway, separated by commas, beside its own; `*` is all"
    )
    gateway_tls_cert: Path | None = Field(None, description="certificate of the gateway, PEM; default: no TLS")
    gateway_tls_key: Path | None = Field(None, description="private key of the gateway's certificate, PEM")
    gateway_max_connections: int = Field(
        1000, ge=1, le=100_000, description="connections to the gateway at once; further ones are refused"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(to_upper_case)] = Field(
        "INFO", description="lowest level that is logged"
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="`auto`: text on a terminal, else JSON")
