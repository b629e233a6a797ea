"""What JetStream stores for files: two buckets, the jobs that wait, and the record of each job.

In: settings. Out: configurations.

``AUDIO_FILES`` holds the files until their jobs are done, ``TRANSCRIPTS`` the results. ``JOBS`` is a work queue: one consumer
of urgent jobs and one of the others, from which every daemon takes, and a job whose lease is not extended for ``ACK_WAIT_S`` goes to another. ``JOB_RECORDS`` has one
message a job, the latest.
"""

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from transcriber.bus.object_store.bucket import stream_of
from transcriber.config import Settings
from transcriber.schema.subjects import JOB_SUBJECT, RECORD_SUBJECT, URGENT_JOB_SUBJECT

FILES_BUCKET, RESULTS_BUCKET = "AUDIO_FILES", "TRANSCRIPTS"
JOBS, JOB_CONSUMER, URGENT_JOB_CONSUMER = "JOBS", "transcriber", "transcriber-urgent"
RECORDS = "JOB_RECORDS"

ACK_WAIT_S = 15.0
MAX_JOBS_PENDING = 10_000
"""Jobs that are being worked at, by all daemons together."""

DEDUPE_S = 120

JOBS_MAX_BYTES, RECORDS_MAX_BYTES = 2**26, 2**28
"""Of the jobs that wait, some 100 000; and of all records, some 200 000."""


def stream_defaults(settings: Settings) -> StreamConfig:
    """What all our streams have in common."""
    return StreamConfig(
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        num_replicas=settings.stream_replicas,
        max_msgs=-1,
    )


def file_streams(settings: Settings) -> tuple[StreamConfig, ...]:
    """The buckets' streams, the jobs and the records."""
    limits = stream_defaults(settings)
    return (
        _bucket(settings, FILES_BUCKET, settings.file_max_age_secs, settings.files_max_bytes),
        _bucket(settings, RESULTS_BUCKET, settings.result_max_age_secs, settings.transcript_max_bytes),
        limits.evolve(
            name=JOBS,
            subjects=[f"{JOB_SUBJECT}.*", f"{URGENT_JOB_SUBJECT}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,  # a submission is refused when there are too many
            max_bytes=JOBS_MAX_BYTES,
            duplicate_window=DEDUPE_S,
        ),
        limits.evolve(
            name=RECORDS,
            subjects=[f"{RECORD_SUBJECT}.*"],
            max_msgs_per_subject=1,
            max_age=settings.result_max_age_secs,
            max_bytes=RECORDS_MAX_BYTES,
            duplicate_window=min(DEDUPE_S, settings.result_max_age_secs),
            allow_direct=True,
        ),
    )


def _bucket(settings: Settings, name: str, max_age_s: int, max_bytes: int) -> StreamConfig:
    """As every client makes an object store (ADR-20)."""
    return stream_defaults(settings).evolve(
        name=stream_of(name),
        subjects=[f"$O.{name}.C.>", f"$O.{name}.M.>"],
        discard=DiscardPolicy.NEW,
        max_age=max_age_s,
        max_bytes=max_bytes,
        duplicate_window=min(DEDUPE_S, max_age_s),
        allow_rollup_hdrs=True,
        allow_direct=True,
    )


def job_consumers() -> tuple[ConsumerConfig, ConsumerConfig]:
    """The consumer of the jobs that are not urgent, and that of those that are."""
    return _job_consumer(JOB_CONSUMER, JOB_SUBJECT), _job_consumer(URGENT_JOB_CONSUMER, URGENT_JOB_SUBJECT)


def _job_consumer(name: str, subject: str) -> ConsumerConfig:
    return ConsumerConfig(
        name=name,
        durable_name=name,
        filter_subject=f"{subject}.*",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=MAX_JOBS_PENDING,
    )
