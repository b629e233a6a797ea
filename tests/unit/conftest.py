"""In this process alone, about a minute in all: no process, no connection, no model."""

from tests.support.in_process import no_process_and_no_connection

__all__ = ["no_process_and_no_connection"]
