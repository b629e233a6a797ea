"""Containers and codecs, by FFmpeg. In: the bytes of a file. Out: its format, and its PCM in pieces.

FFmpeg comes in PyAV's wheel. It is given bytes and nothing else: no file, no address, only demuxers and decoders of a list. Its
allocations, reads and attempts are bounded. The demuxer is chosen by the first bytes, so that no other reads the file.
"""

import ctypes
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Disposition

from transcriber.audio.format import AudioFormat
from transcriber.audio.media.ffmpeg_decoder import FFMPEG_ERRORS, ContainerFacts, FileDecoder
from transcriber.audio.media.icy import without_titles
from transcriber.audio.media.mp4_check import check_mp4
from transcriber.audio.media.mpeg import LOOK_BYTES, check_clear, is_scrambled
from transcriber.audio.media.outline import Outline
from transcriber.audio.media.parts import first_pages, first_time, watch
from transcriber.audio.media.pieces import Media
from transcriber.audio.media.samples import SampleConverter
from transcriber.audio.media.sizes import mend_sizes
from transcriber.audio.media.sniff import HEAD_BYTES, find_kind, skip_tags, unread_kind
from transcriber.audio.media.sources import Reader
from transcriber.errors import EncryptedError, MediaError, NoAudioError, UnseekableError

MAX_MALLOC_BYTES = 2**26
"""FFmpeg allocates no more at once: sizes in a file are claims."""

_CODECS = frozenset({
    "aac", "aac_latm", "ac3", "alac", "eac3", "flac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis",
    "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "amrnb", "amrwb", "dca", "gsm_ms", "mlp", "nellymoser",
    "pcm_bluray", "pcm_dvd", "s302m", "speex", "truehd", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
    "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le",
    "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le",
})  # fmt: skip
_OPTIONS = {
    "protocol_whitelist": "",  # nothing in a file opens another one
    "codec_whitelist": ",".join(sorted(_CODECS)),  # no picture is decoded, not even to find out its size
    "max_streams": "64",
    "max_probe_packets": "256",
    "probesize": "262144",
    "analyzeduration": "2000000",  # microseconds
}
_FOUND_LATE = {"max_streams": "24"}
"""For demuxers that find a stream by its first packet. If that arrives after the file is open, PyAV reads beyond an array with one byte
for each stream known before; the allocator never gives fewer than 24."""
_LONG_LOOK = _FOUND_LATE | {"probesize": "5000000", "analyzeduration": "10000000"}
"""The same, where that packet follows some of a film's video."""
_MORE_OPTIONS = {
    "mpegts": _LONG_LOOK,
    "mpeg": _LONG_LOOK,
    "flv": _FOUND_LATE,
    "ogg": _FOUND_LATE,
    "": {"format_whitelist": "aac,mp3"},  # tried where the first bytes match nothing: these files may begin anywhere
}
_FRAMES_ALONE = frozenset({"", "aac", "mp3"})
"""Kinds of which an internet radio's stream is."""
_BUFFER_BYTES = 32_768
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
"""A title in another encoding costs no audio: PyAV 18 needs the option, and 19 has no other behaviour."""

# Reachable only through the library that PyAV has loaded; the limit holds for the whole process.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(MAX_MALLOC_BYTES))  # noqa: SLF001
# Else FFmpeg writes to stderr about each broken packet; errors of a file are raised by this package.
av.logging.set_level(None)


def open_file(
    reader: Reader, first: int, like: AudioFormat | SampleConverter | None = None
) -> tuple[Media, SampleConverter]:
    """Open a file and decode its first frame, which shows what the container may not; its pieces begin with the frame ``first``.

    Behind another file, its samples are converted to be ``like`` that one's.

    Raises:
        MediaError: it cannot be read, or there is no audio in it.
    """
    skip_tags(reader)
    head = reader.peek(HEAD_BYTES)
    if not head:
        raise NoAudioError("there is nothing in it")
    kind = find_kind(head)
    if kind in _FRAMES_ALONE and (audio := without_titles(reader.source, reader.start)):
        reader.read_instead(audio)
        head = reader.peek(HEAD_BYTES)
        kind = find_kind(head)
    if kind == "mov":
        check_mp4(reader)
    if kind == "mpeg":
        check_clear(reader.peek(LOOK_BYTES))
    scrambled = kind == "mpegts" and is_scrambled(reader.peek(LOOK_BYTES))
    mend_sizes(reader, kind)
    serials = [serial for _, serial in first_pages(reader)] if kind == "ogg" else []
    # FFmpeg counts from 0 in FLAC, whatever its first page says.
    times = [first_time(reader, serial) for serial in serials] if serials and b"\x7fFLAC" in reader.peek(512) else []
    watch(reader, kind)
    outline = Outline(kind, head)
    reader.on_read = outline.observe
    container = _open(reader, kind)
    try:
        alike = SampleConverter(like) if isinstance(like, AudioFormat) else like
        return FileDecoder(
            reader, container, _choose_stream(container), kind, ContainerFacts(outline, serials, times), alike
        ).media(first)
    except BaseException as error:
        container.close()
        if scrambled and isinstance(error, MediaError):  # nothing of it is clear
            raise EncryptedError("the audio is encrypted") from None
        raise


def _open(reader: Reader, kind: str) -> InputContainer:
    try:
        return av.open(  # type: ignore[no-any-return]
            reader,
            "r",
            format=kind or None,
            container_options=_OPTIONS | _MORE_OPTIONS.get(kind, {}),
            buffer_size=_BUFFER_BYTES,
            **_TAGS,
        )
    except FFMPEG_ERRORS as error:
        if reader.error:
            raise reader.error from None
        if not kind:
            name = unread_kind(reader.peek(HEAD_BYTES))
            raise MediaError(f"it is no audio file of a kind that is read{name and ': ' + name}") from None
        if kind == "mov" and not reader.seekable():
            raise UnseekableError("an MP4 file that cannot be read from a pipe, or a broken one") from None
        raise MediaError(f"a broken {kind} file: {_words(error)}") from None


def _words(error: Exception) -> str:
    """What is wrong, in FFmpeg's words, which never hold what is in the file."""
    return getattr(error, "strerror", None) or type(error).__name__


def _choose_stream(container: InputContainer) -> av.AudioStream:
    """The stream to decode; the demuxer leaves the others out.

    Raises:
        NoAudioError: there is none.
        MediaError: there is none that is decoded here.
        EncryptedError: a Matroska or WMA file says so; its packets look like any others.
    """
    streams = container.streams.audio
    if not streams:
        raise NoAudioError("there is no audio in it")
    # A codec that FFmpeg does not know leaves no context.
    names = {stream.index: getattr(stream.codec_context, "name", "") for stream in streams}
    readable = [stream for stream in streams if names[stream.index] in _CODECS]
    if not readable:
        raise MediaError(f"the codec {names[streams[0].index] or 'of the audio'} is not read")
    chosen = next((stream for stream in readable if stream.disposition & Disposition.default), readable[0])
    if "enc_key_id" in chosen.metadata or "ASF_Protection_Type" in container.metadata:
        raise EncryptedError("the audio is encrypted")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen
