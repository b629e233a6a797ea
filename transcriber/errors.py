"""All errors that are raised on purpose, by what happens next.

* ``TranscriberError``
    * ``StartError``: the process ends before "ready", with one line and ``exit_status``.
        * ``ConfigError``: usage or configuration; status 2.
        * ``ModelError``: the model is missing, broken, or cannot be fetched or converted; status 3.
            * ``StorageError``: it cannot be written.
        * ``PlugInError``: the GPU plug-in cannot be built, installed or used; status 3.
        * ``BrokerError``: the broker is unreachable, refuses the credentials or denies the subject; status 3.
            * ``DeniedError``: it does not permit the subscription to a subject.
        * ``JetStreamError``: off, too old, full, or its streams and consumers do not fit; status 3.
        * ``PortError``: a port, of the probes, of metrics or of the gateway, cannot be opened; status 3.
    * ``BadInputError``: this payload is skipped, counted and reported as a ``gap`` ``bad_input``; a request is answered with 400.
        * ``TooLongError``: more audio than a request may have; 413.
        * ``MediaError``: a file or clip that cannot be decoded, or not to its end.
            * ``NoAudioError``: there is no audio in it.
            * ``EncryptedError``: it is encrypted.
            * ``UnseekableError``: it cannot be read from a pipe.
            * ``TruncatedError``: it is cut off.
                * ``ClaimError``: or its header has never been right.
    * ``EngineError``: this window was not transcribed; a ``gap`` that says why.
    * ``RequestError``: this request is answered with an error.
    * ``UnansweredError``: the broker did not answer, or cannot for now; the request is retried.
    * ``RefusedError``: the broker refuses.
    * ``FencedError``: another daemon owns this stream; this one releases it.
    * ``ObjectError``: an object of the store cannot be read as it is; its job fails.
        * ``LinkError``: it is only a link to another one.
        * ``MissingChunkError``: a part of it is missing.
        * ``DigestError``: its bytes are not those that were stored.
    * ``TextGoneError``: text of a file was deleted before its results were written.
    * ``UnfitError``: the model cannot do what a job asks for; the job fails.
    * ``SourceClosedError``: a thread that reads a file must stop.
    * ``CardError``: a GPU says nothing of itself; its figures are left out.

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
    """The model cannot be used: missing, truncated, not ggml, not downloadable, not convertible, or out of memory."""


class StorageError(ModelError):
    """A model cannot be written: a full disk, or a folder without permission."""


class PlugInError(StartError):
    """The GPU plug-in cannot be built, is broken, or is not for this whisper.cpp."""


class BrokerError(StartError):
    """No broker within the time allowed, credentials refused, or the audio subject denied."""


class DeniedError(BrokerError):
    """The broker's permissions do not let this user subscribe; the message names the subject."""


class JetStreamError(StartError):
    """JetStream is off, too old or full, or its streams do not fit; the message says what was expected and found."""


class PortError(StartError):
    """A port is in use, or may not be opened; the message names its variable."""


class BadInputError(TranscriberError, ValueError):
    """A payload that cannot be read. The message never holds the payload's bytes."""


class TooLongError(BadInputError):
    """More seconds of audio than one request may have."""


class RequestError(TranscriberError):
    """A request cannot be served; the message is one line for the requester.

    Attributes:
        code: an HTTP status code.
        retry_after_s: whole seconds after which a retry may succeed; 0 if that is not known.
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
    """Its bytes cannot be read in order, as from a pipe, which cannot seek back."""


class TruncatedError(MediaError):
    """The audio ends clearly before the length that the container states; what there is was decoded.

    Attributes:
        frames: the stated length.
    """

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class ClaimError(TruncatedError):
    """There is less audio than the header claims: the file was cut off, or its length was never filled in.

    Attributes:
        frames: the audio that there is.
    """


class EngineError(TranscriberError):
    """This window was not transcribed.

    Attributes:
        reason: of the ``gap``.
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
    """No answer, or one that allows a retry: the broker is unreachable, busy or full.

    Attributes:
        code: the broker's ``err_code``; 0 if it did not answer.
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
    """Another daemon has stored text of this stream after this one."""


class ObjectError(TranscriberError):
    """The object under this name cannot be read."""


class LinkError(ObjectError):
    """The object is a link to another one, or to a bucket."""


class MissingChunkError(ObjectError):
    """A part of the object is missing: deleted, replaced or too old."""


class DigestError(ObjectError):
    """The object's bytes do not match its digest."""


class TextGoneError(TranscriberError):
    """The limits of the transcript stream have deleted text of a file before its results were written."""


class UnfitError(TranscriberError):
    """The model cannot do what a job asks for."""


class SourceClosedError(TranscriberError):
    """The source of bytes was closed before or during a read."""


class CardError(TranscriberError):
    """No figures of a GPU can be had; the message says why, in one line."""
