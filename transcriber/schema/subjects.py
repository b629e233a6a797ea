"""Fixed subjects, and the syntax of stream names and subject tokens."""

import re

REQUEST_SUBJECT, SUBMIT_SUBJECT, CANCEL_SUBJECT = "transcriber.transcribe", "transcriber.submit", "transcriber.cancel"
SUBMIT_URGENT_SUBJECT = "transcriber.submit.urgent"
"""Of submissions of urgent files: a subject of its own, so that the broker decides who may."""

STREAMS_SUBJECT = "transcriber.streams"
"""Of requests for the state of all streams; a daemon publishes its own with its name as last token."""

ADMIN_SUBJECT = "transcriber.admin"
"""Of admin requests, which all daemons answer; with a daemon's name as last token, that one."""

JOB_SUBJECT, RECORD_SUBJECT = "transcriber.jobs", "transcriber.records"
"""Of the job queue and of the job records; the job's id follows as last token."""

URGENT_JOB_SUBJECT = f"{JOB_SUBJECT}.urgent"
"""Of the queue of urgent jobs; the job's id follows."""

AUDIT_SUBJECT = "transcriber.audit"
"""Of audit entries; the event follows as last token."""

STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBJECT_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
