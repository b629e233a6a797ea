"""Fixed subjects, and the syntax of stream names and subject tokens."""

import re

REQUEST_SUBJECT, SUBMIT_SUBJECT, CANCEL_SUBJECT = "transcriber.transcribe", "transcriber.submit", "transcriber.cancel"
STREAMS_SUBJECT = "transcriber.streams"
"""Of requests for the state of all streams; a daemon publishes its own with its name as last token."""

JOB_SUBJECT, RECORD_SUBJECT = "transcriber.jobs", "transcriber.records"
"""Of the job queue and of the job records; the job's id follows as last token."""

STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBJECT_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
