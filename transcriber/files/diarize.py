"""Speakers of a file, by voice: its audio is read once more.

In: the stored messages of a job, and its audio. Out: the same messages, finals cut where the speaker changes, and labelled.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing, suppress

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Piece
from transcriber.audio.media.sources import Source
from transcriber.audio.resampler import Resampler, output_samples
from transcriber.diarization.voices import VoiceTurn, label
from transcriber.errors import MediaError
from transcriber.files.results import Messages
from transcriber.files.speaker_parts import by_speaker
from transcriber.pipeline.decoder_pool import run_alone
from transcriber.pipeline.speakers import NEAR_S
from transcriber.schema.messages import AnyMessage, Final, Turn


async def labelled(messages: Messages, source: Source) -> Messages:
    """``messages``, with a speaker for each final.

    Raises:
        MediaError, ObjectError: the audio cannot be read any more.
    """
    turns = await run_alone(_turns, source)

    async def with_speakers() -> AsyncIterator[AnyMessage]:
        first = 0
        async for message in messages():
            if not isinstance(message, Final):
                yield message
                continue
            first, near = _near(turns, first, message)
            for part in by_speaker(message, near):
                yield part

    return with_speakers


def _near(turns: Sequence[VoiceTurn], first: int, final: Final) -> tuple[int, list[Turn]]:
    """The turns that ``final`` may be about; and the number of the first, from which those of the next one are looked for."""
    words = final.words or ()
    begin_s = min([final.start, *(word.start for word in words[:1])]) - NEAR_S
    end_s = max([final.start + final.duration, *(word.end for word in words[-1:])]) + NEAR_S
    while first < len(turns) and turns[first].end_s < begin_s:
        first += 1
    near = []
    for number in range(first, len(turns)):
        if turns[number].start_s > end_s:
            break
        if turns[number].end_s >= begin_s:
            near.append(Turn(speaker=label(turns[number].voice), start=turns[number].start_s, end=turns[number].end_s))
    return first, near


def _turns(source: Source) -> tuple[VoiceTurn, ...]:
    """The turns of its voices. Blocks."""
    from transcriber.diarization.file_labeller import FileLabeller  # noqa: PLC0415 - as the next
    from transcriber.diarization.networks import voice_networks  # noqa: PLC0415 - its runtime takes time and memory

    labeller = FileLabeller(voice_networks())
    media = open_media(source)
    rate, first, end, at = media.format.rate, None, -1, 0
    resampler = Resampler(rate)
    with closing(media.pieces):
        for piece in _whole(media.pieces):
            first = piece.frame if first is None else first
            if piece.frame != end:  # audio must not be joined over a hole
                labeller.push(resampler.flush(), at)
                resampler, at = Resampler(rate), output_samples(piece.frame - first, rate)
            samples = resampler.push(decode(piece.data, media.format)[0])
            labeller.push(samples, at)
            at += len(samples)
            end = piece.frame + len(piece.data) // media.format.frame_bytes
    labeller.push(resampler.flush(), at)
    return labeller.turns()


def _whole(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """What can be read of a file that may be broken: so much was transcribed."""
    with suppress(MediaError):
        yield from pieces
