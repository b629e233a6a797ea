"""Objects of any size in a bucket (ADR-20). Event loop only, but for ``blocking_source``."""
