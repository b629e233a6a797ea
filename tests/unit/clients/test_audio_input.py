import os
from pathlib import Path

import pytest

from transcriber.clients.audio_input import open_source
from transcriber.errors import BadInputError


async def test_a_header_that_never_ends_is_refused() -> None:
    out, into = os.pipe()
    os.write(into, b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff")
    os.close(into)

    with pytest.raises(BadInputError, match="ends before its audio"):
        async with open_source(Path(f"/dev/fd/{out}"), None):
            pass
    os.close(out)
