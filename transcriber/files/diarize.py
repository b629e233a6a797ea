"""Speakers of a file, by voice: its audio is read once more, when all its words are known.

In: the stored messages of a job, and its audio. Out: the same messages, finals cut where the speaker changes, and labelled.
"""

from array import array
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, suppress

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Piece
from transcriber.audio.media.sources import Source
from transcriber.audio.resampler import Resampler, output_samples
from transcriber.diarization.labeller import TurnFeeder, VoiceLabeller
from transcriber.diarization.turns import relabelled, turns
from transcriber.errors import MediaError
from transcriber.files.results import Messages
from transcriber.pipeline.decoder_pool import run_alone
from transcriber.schema.messages import AnyMessage, Final


async def labelled(messages: Messages, source: Source) -> Messages:
    """``messages``, with a speaker for each final.

    Raises:
        ConfigError: the weights are not installed.
        MediaError, ObjectError: the audio cannot be read any more.
    """
    times_s = array("d")
    async for message in messages():
        if isinstance(message, Final):
            for turn in turns(message):
                times_s.extend((turn.start_s, turn.end_s))
    labels = await run_alone(_label, source, zip(times_s[::2], times_s[1::2], strict=True))

    async def with_speakers() -> AsyncIterator[AnyMessage]:
        rest = iter(labels)
        async for message in messages():
            for part in relabelled(message, rest) if isinstance(message, Final) else (message,):
                yield part

    return with_speakers


def _label(source: Source, turns_s: Iterable[tuple[float, float]]) -> list[str]:
    """The labels of the turns. Blocks."""
    from transcriber.diarization.embedding import VoiceNetwork  # noqa: PLC0415 - its runtime takes time and memory

    labeller = VoiceLabeller(VoiceNetwork())
    feeder = TurnFeeder(turns_s, labeller)
    media = open_media(source)
    rate, first, end, at = media.format.rate, None, -1, 0
    resampler = Resampler(rate)
    with closing(media.pieces):
        for piece in _whole(media.pieces):
            first = piece.frame if first is None else first
            if piece.frame != end:  # audio must not be joined over a hole
                feeder.push(resampler.flush(), at)
                resampler, at = Resampler(rate), output_samples(piece.frame - first, rate)
            samples = resampler.push(decode(piece.data, media.format)[0])
            feeder.push(samples, at)
            at += len(samples)
            end = piece.frame + len(piece.data) // media.format.frame_bytes
    feeder.push(resampler.flush(), at)
    feeder.flush()
    return labeller.labels()


def _whole(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """What can be read of a file that may be broken: so much was transcribed."""
    with suppress(MediaError):
        yield from pieces
