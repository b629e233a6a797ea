"""What processes inherit of the caller of the tests: variables and ignored signals. It is the same for every caller.

Nearly every variable can be a setting of ours, of a library's, or of a terminal's, so what stays is listed, not what goes.
"""

import os
import signal
import time

KEPT = frozenset({
    "HOME", "PATH", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_PATH", "WYOMING_OPENAI_PYTHON", "SEEDS",
    # On some processors OpenBLAS computes wrong results unless the processor is named.
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
    # Set by the package itself as it is imported.
    "ORT_DISABLE_TELEMETRY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
})  # fmt: skip
KEPT_PREFIXES = ("PYTHON", "PYTEST_", "HYPOTHESIS_", "COVERAGE_", "PIP_")
OURS = {"LANG": "C.UTF-8", "TZ": "UTC", "TERM": "dumb"}
"""A terminal that a test opens is another one: ``tests.support.terminal``."""


def settle() -> None:
    """Take away what the caller brought, and put ours in its place; processes that are started later have it from here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    os.environ.update(OURS)
    time.tzset()
