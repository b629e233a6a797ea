"""The settings that ``transcriber plan`` takes, and those of them that daemons get as they were given. Pure.

In: settings. Out: names and texts, for an environment.
"""

from transcriber.config import Settings, settings_fields

PLANNED_SETTINGS = (
    "buffer_duration_secs", "buffer_cut", "left_context_secs", "transcription_queue_capacity", "speakers", "input_", "files",
    "file_window_secs", "whisper_", "log_", "durable", "backfill", "speech_gate", "endpoint_", "partial_", "second_pass",
    "stream_replicas", "audio_max", "transcript_max",
)  # fmt: skip
"""Prefixes, of what is planned with; less the latency, whose flag has a name of its own."""

OF_THE_PLANNER = ("log_", "whisper_model", "whisper_threads", "whisper_workers", "whisper_processes")
"""Prefixes, of what is this machine's own, or what the plan finds."""


def given(settings: Settings) -> dict[str, str]:
    """What was set of it, by flags or the environment."""
    return {
        name.upper(): as_text(getattr(settings, name))
        for name in settings_fields()
        if name in settings.model_fields_set
        and name.startswith(PLANNED_SETTINGS)
        and not name.startswith(OF_THE_PLANNER)
    }


def as_text(value: object) -> str:
    """As the environment has it: ``1`` and ``0`` of switches, ``5`` of 5.0.

    >>> as_text(True), as_text(5.0), as_text(2_592_000), as_text(1234567.5)
    ('1', '5', '2592000', '1234567.5')
    """
    if isinstance(value, bool):
        return str(int(value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
