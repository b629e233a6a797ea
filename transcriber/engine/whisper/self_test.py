"""Do the kernels compute correctly? Checked before the first window, not found out in transcripts.

A kernel that is wrong on one processor, from a compiler's bug or a mistaken build, does not crash: it makes other words.
The bundled model transcribes the bundled clip with certainty, on every correct kernel; so it runs first, with
weights of type q8_0 if the user's model has those, since they have kernels of their own, and f16 if not.
"""

import os
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

from transcriber.engine.job import SpeechModel
from transcriber.engine.warm_up import self_test_speech
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.quantize import quantized
from transcriber.models.ggml import FTYPE_Q8_0, check_model_file

SAID = "gale warning for the north channel tonight wind northwest thirty five knots"
ALIKE = 0.8
"""Share of the words that must be right. Correct kernels give all of them."""


def check_kernels(path: Path, load: Callable[[Path], SpeechModel]) -> None:
    """Transcribe the clip with the bundled model, as q8_0 if the model in ``path`` is; takes about 0.3 s.

    Raises:
        ModelError: the words are wrong, or ``path`` is no model.
    """
    if check_model_file(path).ftype != FTYPE_Q8_0:
        _check(load(DEMO_MODEL))
        return
    # In memory: a container's root may be read-only, /tmp included.
    with os.fdopen(os.memfd_create("self-test"), "wb") as file:
        file.write(quantized(DEMO_MODEL))
        file.flush()
        _check(load(Path(f"/proc/self/fd/{file.fileno()}")))


def _check(model: SpeechModel) -> None:
    try:
        said = model.transcribe(self_test_speech(), "en", lambda: False).text
    except EngineError as error:
        said = f"nothing: {error}"
    finally:
        model.close()
    words = re.findall(r"[a-z]+", said.lower())
    if SequenceMatcher(None, words, SAID.split()).ratio() < ALIKE:
        raise ModelError(f"whisper.cpp computes wrongly on this processor: the self-test says {said[:80]!r}")
