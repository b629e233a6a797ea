"""Was every frame accounted for? In: the messages of one session. Out: what does not add up."""

from collections.abc import Sequence

from transcriber.messages import AnyMessage, End, Final, Gap, Silence


def account_errors(messages: Sequence[AnyMessage], sent_frames: int) -> list[str]:
    """What is wrong with a session of which ``sent_frames`` frames were published; nothing, if all is well.

    Checked to the frame: the sums of the ``end``, that finals, silences and gaps tile the session, and
    that the ``end`` agrees with them.
    """
    ends = [message for message in messages if isinstance(message, End)]
    if len(ends) != 1:
        return [f"{len(ends)} end messages"]
    (end,) = ends
    finals, silences, gaps = (
        [message for message in messages if isinstance(message, kind)] for kind in (Final, Silence, Gap)
    )
    sums = {
        "received = transcribed + silent + dropped": (
            end.received_frames,
            end.transcribed_frames + end.silent_frames + end.dropped_frames,
        ),
        "frames = received + lost": (end.frames, end.received_frames + end.lost_frames),
        "frames = sent": (end.frames, sent_frames),
        "transcribed = sum of finals": (end.transcribed_frames, sum(final.frames for final in finals)),
        "silent = sum of silences": (end.silent_frames, sum(silence.frames for silence in silences)),
        "dropped + lost = sum of gaps": (end.dropped_frames + end.lost_frames, sum(gap.frames for gap in gaps)),
        "segments = number of finals": (end.segments, len(finals)),
    }
    errors = [f"not {rule}: {left} and {right}" for rule, (left, right) in sums.items() if left != right]
    place = 0
    # A gap of 0 frames tells that something was lost and not how much: it covers nothing.
    tiles = [tile for tile in (*finals, *silences, *gaps) if tile.frames]
    for tile in sorted(tiles, key=lambda tile: tile.start_frame):
        if tile.start_frame != place:
            errors.append(f"{tile.type} begins at frame {tile.start_frame} instead of {place}")
        place = tile.start_frame + tile.frames
    if place != end.frames:
        errors.append(f"the last window ends at frame {place} instead of {end.frames}")
    return errors
