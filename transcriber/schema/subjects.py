"""Fixed subjects, and what names of streams and tokens of subjects may look like."""

import re

REQUEST_SUBJECT, SUBMIT_SUBJECT, CANCEL_SUBJECT = "transcriber.transcribe", "transcriber.submit", "transcriber.cancel"
JOB_SUBJECT, RECORD_SUBJECT = "transcriber.jobs", "transcriber.records"
"""Of the queue and of the records; and then the id of the job."""

STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBJECT_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
