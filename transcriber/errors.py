"""Every error of ours, sorted by what happens next.

* ``TranscriberError``
    * ``StartError``: the process ends before "ready", with one line and ``exit_status``.
        * ``ConfigError``: usage or configuration; status 2.
        * ``ModelError``: the model is missing, broken, or cannot be fetched or converted; status 3.
            * ``StorageError``: there is no place for it.
        * ``BrokerError``: the broker is out of reach, refuses us or denies our subject; status 3.
            * ``DeniedError``: it does not let us subscribe to a subject.
        * ``JetStreamError``: off, too old, full, or its streams and consumers are not what we need; status 3.
        * ``PortError``: the probes' port cannot be had; status 3.
    * ``BadInputError``: this payload is skipped, counted and reported as a ``gap`` ``bad_input``; a request is answered with 400.
        * ``TooLongError``: more audio than a request may have; 413.
        * ``MediaError``: a file or clip that cannot be decoded, or not to its end.
            * ``NoAudioError``: there is no audio in it.
            * ``EncryptedError``: what is in it is encrypted.
            * ``UnseekableError``: it cannot be read from a pipe.
            * ``TruncatedError``: it ends before its end.
                * ``ClaimError``: or its header has never been right.
    * ``EngineError``: this window was not transcribed; a ``gap`` that says why.
    * ``RequestError``: this request is answered with an error.
    * ``UnansweredError``: the broker did not do what we asked, but time may mend it; it is asked again.
    * ``RefusedError``: the broker refuses.
    * ``FencedError``: another daemon transcribes this stream; this one steps back.
    * ``ObjectError``: an object of the store cannot be read as it is; its job fails.
        * ``LinkError``: it is only a link to another one.
        * ``MissingChunkError``: a part of it is gone.
        * ``DigestError``: its bytes are not those that were stored.
    * ``TextGoneError``: text of a file was removed before its results were written.
    * ``UnfitError``: the model cannot do what a job asks for; it fails.
    * ``SourceClosedError``: whoever reads a file in a thread is told to stop.

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
    """The model cannot be used: missing, truncated, not ggml, not to be had, not to be converted, or out of memory."""


class StorageError(ModelError):
    """A model cannot be written: a full disk, or a folder that is not ours."""


class BrokerError(StartError):
    """No broker within the time allowed, credentials refused, or the audio subject denied."""


class DeniedError(BrokerError):
    """The broker's permissions do not let this user subscribe; the message names the subject."""


class JetStreamError(StartError):
    """JetStream is off, too old or full, or what is there does not fit; the message says what was expected and found."""


class PortError(StartError):
    """The health port is in use or not ours to open."""


class BadInputError(TranscriberError, ValueError):
    """A payload that cannot be read. The message never holds the payload's bytes."""


class TooLongError(BadInputError):
    """More seconds of audio than one request may have."""


class RequestError(TranscriberError):
    """What is asked cannot be done; the message is one line for who asked.

    Attributes:
        code: as HTTP counts them.
        retry_after_s: whole seconds after which asking again may help; 0 if that is not known.
    """

    def __init__(self, code: int, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class MediaError(BadInputError):
    """A file or clip that cannot be decoded."""


class NoAudioError(MediaError):
    """There is no audio in it: video only, or nothing at all."""


class EncryptedError(MediaError):
    """The audio is encrypted."""


class UnseekableError(MediaError):
    """The order of its bytes allows no reading from a pipe, which cannot go back."""


class TruncatedError(MediaError):
    """The audio ends clearly before the length that the container tells; what there is was decoded.

    Attributes:
        frames: the length that was told.
    """

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class ClaimError(TruncatedError):
    """There is less audio than the header claims: the file was cut off, or nobody ever filled in how long it is.

    Attributes:
        frames: what there is.
    """


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
    """No answer, or one that says to try again: the broker is away, is busy, or has no room.

    Attributes:
        code: the broker's ``err_code``; 0 where it said nothing.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


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


class TextGoneError(TranscriberError):
    """The limits of the stream of transcripts have taken some text of a file before its results were written."""


class UnfitError(TranscriberError):
    """The model cannot do what is asked of it."""


class SourceClosedError(TranscriberError):
    """The source of bytes was closed while, or before, somebody read from it."""
