"""Every error of ours, sorted by what happens next.

* ``TranscriberError``
    * ``StartError``: the process ends before "ready", with one line and ``exit_status``.
        * ``ConfigError``: usage or configuration; status 2.
        * ``ModelError``: the model is missing, broken or cannot be fetched; status 3.
        * ``BrokerError``: the broker is out of reach, refuses us or denies our subject; status 3.
        * ``JetStreamError``: off, too old, full, or its streams and consumers are not what we need; status 3.
        * ``PortError``: the probes' port cannot be had; status 3.
    * ``BadInputError``: this payload is skipped, counted and reported as a ``gap`` ``bad_input``.
    * ``EngineError``: this window was not transcribed; a ``gap`` that says why.
    * ``UnansweredError``: the broker did not do what we asked, but time may mend it; it is asked again.
    * ``RefusedError``: the broker refuses.
    * ``FencedError``: another daemon transcribes this stream; this one steps back.
    * ``ObjectError``: an object of the store cannot be read as it is; its job fails.
        * ``LinkError``: it is only a link to another one.
        * ``MissingChunkError``: a part of it is gone.
        * ``DigestError``: its bytes are not those that were stored.
    * ``SourceClosedError``: whoever reads a file in a thread is told to stop.
    * ``ServiceRefusal``: a request is answered with an error code.

Anything else is a crash: it is not caught, and the process ends with status 1.
"""

from typing import ClassVar, Literal


class TranscriberError(Exception):
    """Base of every error raised on purpose."""


class StartError(TranscriberError):
    """The process cannot start; the message is one line for the operator."""

    exit_status: ClassVar[int] = 3


class ConfigError(StartError):
    """A wrong setting or wrong usage; the message names the variable, the value and what is allowed."""

    exit_status: ClassVar[int] = 2


class ModelError(StartError):
    """The model cannot be used: missing, truncated, not ggml, not downloadable, or out of memory."""


class BrokerError(StartError):
    """No broker within the time allowed, credentials refused, or the audio subject denied."""


class JetStreamError(StartError):
    """JetStream is off, too old or full, or what is there does not fit; the message says what was expected and found."""


class PortError(StartError):
    """The health port is in use or not ours to open."""


class BadInputError(TranscriberError, ValueError):
    """A payload that cannot be read. The message never holds the payload's bytes."""


class EngineError(TranscriberError):
    """This window was not transcribed.

    Attributes:
        reason: why, as the ``gap`` will say it.
        return_code: what ``whisper_full`` returned; 0 when it was never called.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Literal["engine_error", "queue_full", "shutdown"] = "engine_error",
        return_code: int = 0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.return_code = return_code


class UnansweredError(TranscriberError):
    """No answer, or one that says to try again: the broker is away, is busy, or has no room."""


class RefusedError(TranscriberError):
    """The broker refuses.

    Attributes:
        code: its ``err_code``.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FencedError(TranscriberError):
    """Another daemon has stored text of this stream since we did."""


class ObjectError(TranscriberError):
    """What lies in the object store under this name is no object that can be read."""


class LinkError(ObjectError):
    """The object is a link to another one, or to a bucket."""


class MissingChunkError(ObjectError):
    """A part of the object is gone: deleted, replaced or too old."""


class DigestError(ObjectError):
    """The object's bytes do not add up to its digest."""


class SourceClosedError(TranscriberError):
    """The source of bytes was closed while, or before, somebody read from it."""


class ServiceRefusal(TranscriberError):  # noqa: N818 - an answer, not a fault of ours
    """A request is refused; the message is the one line of the answer.

    Attributes:
        code: as HTTP has it: 400, 404, 409, 413, 429, 500, 503, 504.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
