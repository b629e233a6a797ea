"""Is every frame accounted for? In: the messages of one session. Out: the errors in their account."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from transcriber.schema.messages import LOST_REASONS, AnyMessage, End, Final, Gap, Silence
from transcriber.text.phrases import CHANNELS

BRIDGED = LOST_REASONS | {"bad_input"}
"""Reasons of gaps that may lie within windows."""

_Tile = Final | Silence | Gap


def account_errors(messages: Sequence[AnyMessage], sent_frames: int) -> list[str]:
    """Errors in the account of a session with ``sent_frames`` published frames; empty if it is exact.

    Checked to the frame: the sums of the ``end``, that the finals, silences and gaps of each speaker tile the session, and
    that the ``end`` agrees with them. A gap without a speaker is one of all speakers; the gap of a bridged hole lies within a
    window, and its frames are not the window's.
    """
    ends = [message for message in messages if isinstance(message, End)]
    if len(ends) != 1:
        return [f"{len(ends)} end messages"]
    (end,) = ends
    tiles = [message for message in messages if isinstance(message, _Tile)]
    speakers = _by_speaker(tiles)
    totals = _sums(speakers.values(), end.frames)
    sums = {
        "received = transcribed + silent + dropped": (
            end.received_frames,
            end.transcribed_frames + end.silent_frames + end.dropped_frames,
        ),
        "frames = received + lost": (end.frames, end.received_frames + end.lost_frames),
        "frames = sent": (end.frames, sent_frames),
        "transcribed = sum of finals": (end.transcribed_frames, totals["final"]),
        "silent = sum of silences": (end.silent_frames, totals["silence"]),
        "dropped = sum of gaps in what came": (end.dropped_frames, totals["gap"]),
        "lost = sum of the other gaps": (end.lost_frames, totals["lost"]),
        "segments = number of finals": (end.segments, sum(isinstance(tile, Final) for tile in tiles)),
    }
    errors = [f"not {rule}: {left} and {right}" for rule, (left, right) in sums.items() if left != right]
    for speaker, own in speakers.items():
        of = "" if speaker is None else f" of speaker {speaker}"
        place = 0
        for tile in tiling(own):
            if tile.start_frame != place:
                errors.append(f"{tile.type}{of} begins at frame {tile.start_frame} instead of {place}")
            place = tile.start_frame + tile.frames
        if place != end.frames:
            errors.append(f"the last window{of} ends at frame {place} instead of {end.frames}")
    return errors


def tiling(tiles: Sequence[_Tile]) -> list[_Tile]:
    """A speaker's tiles, in order of time, without the gaps within others: holes that were bridged."""
    others = [tile for tile in tiles if not _may_be_bridged(tile)]
    reached = list(accumulate((_range(tile)[1] for tile in others), max))

    def is_bridged(tile: _Tile) -> bool:
        start, end = _range(tile)
        before = bisect_left(others, end, key=lambda other: other.start_frame)
        return _may_be_bridged(tile) and before > 0 and reached[before - 1] > start

    return [tile for tile in tiles if not is_bridged(tile)]


def _by_speaker(tiles: Iterable[_Tile]) -> dict[str | None, list[_Tile]]:
    """The tiles of each speaker in order of time; all under None where speakers are not separate."""
    # A gap of 0 frames means a loss of unknown length: it covers nothing.
    tiles = sorted((tile for tile in tiles if tile.frames), key=lambda tile: tile.start_frame)
    labels: set[str | None] = {channel for tile in tiles if (channel := _channel(tile)) is not None}
    if labels:
        labels |= set(CHANNELS)  # one without messages is an error
    if not labels or any(_channel(tile) is None for tile in tiles if not isinstance(tile, Gap)):
        labels.add(None)
    return {
        label: [tile for tile in tiles if _channel(tile) == label or (isinstance(tile, Gap) and tile.speaker is None)]
        for label in sorted(labels, key=str)
    }


def _channel(tile: _Tile) -> str | None:
    """Its channel; None: all of them, whoever speaks there by voice."""
    return tile.speaker if tile.speaker in CHANNELS else None


def _sums(speakers: Iterable[Sequence[_Tile]], frames: int) -> dict[str, int]:
    """Frames that are a gap of any speaker, else a final of any, else silence; and those lost before they arrived."""
    layers = [_layers(own) for own in speakers]
    edges = {0, frames} | {edge for own in layers for tiles in own for tile in tiles for edge in _range(tile)}
    sums = dict.fromkeys(("final", "silence", "gap", "lost", "nothing"), 0)
    for start, end in pairwise(sorted(edges)):
        found = {kind for own in layers if (kind := _kind_at(own, start))}
        worst = next((kind for kind in ("lost", "gap", "final", "silence") if kind in found), "nothing")
        sums[worst] += end - start
    return sums


def _layers(tiles: Sequence[_Tile]) -> tuple[list[_Tile], list[_Tile]]:
    """Tiles that may lie within others, and the rest."""
    return [tile for tile in tiles if _may_be_bridged(tile)], [tile for tile in tiles if not _may_be_bridged(tile)]


def _kind_at(layers: Iterable[Sequence[_Tile]], frame: int) -> str | None:
    """The kind of a frame, by the first layer that covers it."""
    for tiles in layers:
        last = bisect_right(tiles, frame, key=lambda tile: tile.start_frame) - 1
        if last >= 0 and frame < _range(tiles[last])[1]:
            tile = tiles[last]
            return "lost" if isinstance(tile, Gap) and tile.reason in LOST_REASONS else tile.type
    return None


def _may_be_bridged(tile: _Tile) -> bool:
    return isinstance(tile, Gap) and tile.reason in BRIDGED


def _range(tile: _Tile) -> tuple[int, int]:
    return tile.start_frame, tile.start_frame + tile.frames
