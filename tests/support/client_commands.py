"""The command ``transcriber`` as a process with pipes."""

import asyncio
import subprocess
import sys


class Process(subprocess.Popen[bytes]):
    """Does not outlive a test that fails."""

    def __exit__(self, *error):
        self.kill()
        super().__exit__(*error)


def command(broker, *arguments, **options):
    """``transcriber`` as a real process with pipes."""
    pipe = subprocess.PIPE
    line = [sys.executable, "-m", "transcriber", *map(str, arguments), "--nats-url", broker.url]
    return Process(line, **{"stdin": pipe, "stdout": pipe, "stderr": pipe} | options)


async def output(process, given=None):
    """Status, stdout and stderr of a process that ends."""
    out, err = await asyncio.to_thread(process.communicate, given, 60)
    return process.returncode, (out or b"").decode(), err.decode()
