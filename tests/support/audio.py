"""Audio payloads of constant level, and how they are published."""

import numpy as np


def level(thousandths, frames):
    """A payload of constant level: the fake model transcribes it as the text ``thousandths``."""
    return np.full(frames, round(thousandths * 32.768), "<i2").tobytes()


async def speak(client, stream, payload, **headers):
    """Publish one payload; ``offset=3`` becomes ``Audio-Offset: 3``."""
    names = {"offset": "Audio-Offset", "end": "Audio-End", "session": "Audio-Session", "content_type": "Content-Type"}
    await client.publish(
        f"audio.{stream}", payload, headers={names.get(k, k): str(v) for k, v in headers.items()} or None
    )
