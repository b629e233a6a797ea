"""Windows to text, on worker threads behind bounded queues."""

import os

WORKER_THREAD = "whisper-"
"""What the names of the workers' threads begin with; here, so that who only asks for it loads no worker."""

# Threads that wait for each other at OpenMP's barriers spin; by default for so long that they delay the very thread they
# wait for as soon as another process wants the processor. Two threads on two cores, tiny.en, a window beside two busy
# processes: 470 to 520 ms with GOMP's default, at worst 12.8 s; 280 to 300 ms, at worst 335 ms, with 1000 turns. On an
# idle machine it is no slower (129 to 141 ms, not 142 to 154).
# LLVM's counts in milliseconds, 200 by default; on an idle machine 1 is as fast.
# Both are read when whisper.cpp is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")
