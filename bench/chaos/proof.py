"""Is what is stored all that was said, once, and in order? In: what the broker stored, and the truth. Out: errors in words.

The truth is read back from the broker, never from the memory of a process: every message of the stream of transcripts in
the order in which it was stored, and every message of the stream of audio.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Self

import numpy as np

from bench.chaos.plan import Recording, Samples
from transcriber.schema.messages import AnyMessage, End, Final, Gap, Partial, Silence, Status, message_id
from transcriber.testing.verify import account_errors, tiling

Tile = Final | Silence | Gap


@dataclass(frozen=True, slots=True)
class StoredText:
    """A message of the stream of transcripts, with its ``Nats-Msg-Id``."""

    id: str
    message: AnyMessage


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """A message of the stream of audio: its sequence there, its stream, and its ``Nats-Msg-Id``."""

    sequence: int
    stream: str
    id: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """How far the consumer of a stream is: the sequence up to which all is acknowledged, and what is left."""

    floor: int
    pending: int


@dataclass(slots=True)
class Verdict:
    """What was found, and how much was looked at.

    Attributes:
        windows: finals and silences.
        lost_frames: in no window and no gap.
        duplicated_frames: in more than one.
        reordered: windows and gaps stored after a later one.
        wrong_texts: finals whose text is not that of their frames.
        files, wrong_results: jobs, and documents of theirs that are not those of an undisturbed run, byte by byte.
        texts: stream, number of the session in it, start, length and text of every final.
    """

    errors: list[str] = field(default_factory=list)
    sessions: int = 0
    windows: int = 0
    frames: int = 0
    lost_frames: int = 0
    duplicated_frames: int = 0
    reordered: int = 0
    wrong_texts: int = 0
    files: int = 0
    wrong_results: int = 0
    texts: list[tuple[str, int, int, int, str]] = field(default_factory=list)

    def differs_from(self, other: Self) -> list[str]:
        """Finals that are not those of ``other``, in words."""
        ours, theirs = Counter(self.texts), Counter(other.texts)
        return [f"final {text} is not in the undisturbed run" for text in ours - theirs] + [
            f"final {text} of the undisturbed run is missing" for text in theirs - ours
        ]


def judge(
    recordings: Sequence[Recording],
    audio: Sequence[StoredAudio],
    texts: Sequence[StoredText],
    hears: Callable[[Samples], str] | None = None,
) -> Verdict:
    """Compare what is stored with what was published; ``hears`` is the text of a window, where it is known."""
    verdict = Verdict()
    verdict.errors += [f"{count} messages have the id {text_id}" for text_id, count in _twice(texts)]
    streams = {recording.stream for recording in recordings}
    verdict.errors += [f"text of {name}, which nobody sent" for name in {t.message.stream for t in texts} - streams]
    for stream in sorted(streams):
        own = [recording for recording in recordings if recording.stream == stream]
        came = [message for message in audio if message.stream == stream]
        verdict.errors += _audio_errors(stream, own, came)
        _judge_stream(verdict, own, came, [text for text in texts if text.message.stream == stream], hears)
    return verdict


def consumer_errors(audio: Sequence[StoredAudio], consumers: dict[str, Acknowledged]) -> list[str]:
    """Is all audio acknowledged? ``consumers`` are by stream."""
    last = {message.stream: message.sequence for message in audio}
    errors = [f"{stream}: no consumer" for stream in last.keys() - consumers.keys()]
    for stream, consumer in consumers.items():
        if consumer.pending:
            errors.append(f"{stream}: {consumer.pending} payloads are not acknowledged")
        if consumer.floor != last.get(stream, 0):
            errors.append(f"{stream}: acknowledged up to {consumer.floor} instead of {last.get(stream, 0)}")
    return errors


def _twice(texts: Sequence[StoredText]) -> list[tuple[str, int]]:
    return [(text_id, count) for text_id, count in Counter(text.id for text in texts).items() if count > 1]


def _audio_errors(stream: str, recordings: Sequence[Recording], audio: Sequence[StoredAudio]) -> list[str]:
    """Is all that was to be published stored there, once, and in order? If not, the rest proves nothing."""
    planned = [payload.id for recording in recordings for payload in recording.payloads]
    stored = [message.id for message in audio]
    return [] if stored == planned else [f"{stream}: the audio is not stored as it was published"]


def _judge_stream(
    verdict: Verdict,
    recordings: Sequence[Recording],
    audio: Sequence[StoredAudio],
    texts: Sequence[StoredText],
    hears: Callable[[Samples], str] | None,
) -> None:
    """The sessions of one stream, which must follow each other."""
    sequences = {message.id: message.sequence for message in audio}
    expected = [r.session or str(sequences.get(r.payloads[0].id)) for r in recordings]
    found = [session for session, _ in groupby(text.message.session for text in texts)]
    if found != expected:
        verdict.errors.append(f"{recordings[0].stream}: the sessions are {found} instead of {expected}")
    for number, (recording, session) in enumerate(zip(recordings, expected, strict=True)):
        own = [text for text in texts if text.message.session == session]
        errors = [*_errors(recording, own), *_sequence_errors(recording, sequences, own)]
        verdict.errors += [f"{recording.stream}, session {session}: {error}" for error in errors]
        _measure(verdict, number, recording, [text.message for text in own], hears)


def _errors(recording: Recording, texts: Sequence[StoredText]) -> list[str]:
    """What is wrong with one session."""
    messages = [text.message for text in texts]
    tiles = [message for message in messages if isinstance(message, Tile)]
    return [
        *_frame_errors(messages),
        *account_errors(messages, recording.frames),
        *_order_errors(tiles),
        *_gap_errors(recording, tiles),
        *_segment_errors(tiles),
        *_id_errors(texts),
    ]


def _frame_errors(messages: Sequence[AnyMessage]) -> list[str]:
    """It begins once and ends once, and nothing is outside."""
    if not messages:
        return ["no message at all"]
    starts = [isinstance(message, Status) and message.state == "started" for message in messages]
    errors = [] if starts == [True] + [False] * (len(starts) - 1) else ["it does not begin with its only start"]
    last = messages[-1]
    if not isinstance(last, End):
        errors.append(f"a {last.type} is last, not the end")
    errors += [f"the end has rev {end.rev}" for end in messages if isinstance(end, End) and end.rev]
    errors += ["a partial is stored" for message in messages if isinstance(message, Partial)]
    return errors


def _order_errors(tiles: Sequence[Tile]) -> list[str]:
    """Stored in the order of their frames; a gap of 0 frames, or within a window, may be published while its window is open."""
    place, errors = 0, []
    bridged = _bridged(tiles)
    for tile in tiles:
        if tile.frames and tile.start_frame != place and id(tile) not in bridged:
            errors.append(f"a {tile.type} from frame {tile.start_frame} is stored where {place} is due")
        elif tile.start_frame < place:
            errors.append(f"a {tile.type} at frame {tile.start_frame} is stored after frame {place}")
        if tile.frames and id(tile) not in bridged:
            place = max(place, tile.start_frame + tile.frames)
    return errors


def _bridged(tiles: Sequence[Tile]) -> set[int]:
    """Which of these objects are gaps within windows, published before the window is."""
    in_order = sorted((tile for tile in tiles if tile.frames), key=lambda tile: tile.start_frame)
    return {id(tile) for tile in in_order} - {id(tile) for tile in tiling(in_order)}


def _gap_errors(recording: Recording, tiles: Sequence[Tile]) -> list[str]:
    """The gaps that were provoked, and no others."""
    found = Counter((gap.start_frame, gap.frames, gap.reason) for gap in tiles if isinstance(gap, Gap))
    planned = Counter(recording.gaps)
    return [f"an unprovoked gap {gap}" for gap in found - planned] + [f"no gap {gap}" for gap in planned - found]


def _segment_errors(tiles: Sequence[Tile]) -> list[str]:
    """Windows are numbered without a hole; silences count."""
    windows = [tile for tile in tiles if not isinstance(tile, Gap)]
    numbers = [(number, w.segment) for number, w in enumerate(windows) if isinstance(w, Final)]
    return [f"segment {segment} is the window {number}" for number, segment in numbers if number != segment][:1]


def _id_errors(texts: Sequence[StoredText]) -> list[str]:
    """Gaps of no known length are numbered: there can be one where another gap begins."""
    errors, unknown = [], 0
    for text in texts:
        message = text.message
        if isinstance(message, Tile):
            unknown += not message.frames
            rev = 0 if message.frames else unknown
            expected = message_id(message.stream, message.session, message.start_frame, message.type, rev)
            if text.id != expected:
                errors.append(f"the id {text.id} instead of {expected}")
    return errors


def _sequence_errors(recording: Recording, sequences: Mapping[str, int], texts: Sequence[StoredText]) -> list[str]:
    """Every message says which payloads it speaks of: a final begins in the first, and has ended when the last had come."""
    # An echo comes after what it repeats, which counts.
    holders = {p.start: p for p in reversed(recording.payloads) if len(p.data) > 1 and not len(p.data) % 2}
    starts = sorted(holders)

    def holder(frame: int) -> int:
        """Of what holds the frame; of a hole, the payload that shows it."""
        number = bisect_right(starts, frame) - 1
        payload = holders[starts[number]]
        in_hole = frame >= payload.start + len(payload.data) // 2 and number + 1 < len(starts)
        return sequences.get(holders[starts[number + 1]].id if in_hole else payload.id, 0)

    errors = []
    for message in (text.message for text in texts):
        if message.first_seq is None or message.last_seq is None or message.checkpoint is None or message.lag_s is None:
            errors.append(f"a {message.type} does not say of which payloads, how late, or where to go on")
        elif isinstance(message, Final) and message.first_seq != holder(message.start_frame):
            errors.append(
                f"the final at {message.start_frame} says {message.first_seq}, not {holder(message.start_frame)}"
            )
        elif isinstance(message, Final) and message.last_seq < holder(message.start_frame + message.frames - 1):
            errors.append(
                f"the final at {message.start_frame} says that it ends with {message.last_seq}, before it does"
            )
    return errors[:3]


def _measure(
    verdict: Verdict,
    number: int,
    recording: Recording,
    messages: Sequence[AnyMessage],
    hears: Callable[[Samples], str] | None,
) -> None:
    """Count what there is and what is wrong; compare the texts."""
    tiles = [message for message in messages if isinstance(message, Tile)]
    bridged = _bridged(tiles)
    tiles = [tile for tile in tiles if id(tile) not in bridged]
    covered = np.zeros(recording.frames + 1, np.int64)
    for tile in tiles:
        covered[min(tile.start_frame, recording.frames)] += 1
        covered[min(tile.start_frame + tile.frames, recording.frames)] -= 1
    times = np.cumsum(covered)[:-1]
    verdict.sessions += 1
    verdict.frames += recording.frames
    verdict.windows += sum(not isinstance(tile, Gap) for tile in tiles)
    verdict.lost_frames += int(np.count_nonzero(times == 0))
    verdict.duplicated_frames += int(np.maximum(times - 1, 0).sum())
    verdict.reordered += sum(b.start_frame < a.start_frame for a, b in pairwise(t for t in tiles if t.frames))
    for final in (tile for tile in tiles if isinstance(tile, Final)):
        place = (recording.stream, number, final.start_frame, final.frames)
        verdict.texts.append((*place, final.text))
        if hears is None:
            continue
        heard = hears(recording.samples[final.start_frame : final.start_frame + final.frames])
        if final.text != heard:
            verdict.wrong_texts += 1
            verdict.errors.append(f"the text of {place} is {final.text!r} instead of {heard!r}")
