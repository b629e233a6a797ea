"""As unit tests, but for random inputs by the thousand: seconds to minutes each."""

from tests.support.in_process import no_process_and_no_connection

__all__ = ["no_process_and_no_connection"]
