from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tests.support.webm_ogg import (
    block,
    blocks,
    cluster,
    element,
    opus_head,
    simple_block,
    sliced,
    track,
    unsized,
    webm_head,
)
from transcriber.audio.codecs.opus import OpusHeader, Packet, RecordingStarted, Unreadable
from transcriber.audio.codecs.webm import WebmDemuxer

P20 = b"\xf8\xff\xfe"  # 20 ms of silence
LONGER = b"\xf8\xff\xfe" + bytes(300)
MS = 48


def feed(*chunks, lost=()):
    demuxer = WebmDemuxer()
    found = [one for n, chunk in enumerate(chunks) for one in demuxer.feed(chunk, lost=n in lost)]
    return found + list(demuxer.finish())


def audio(found):
    return [one for one in found if isinstance(one, Packet)]


def at(*times_ms):
    return [Packet(P20, time_ms * MS) for time_ms in times_ms]


def test_blocks_have_the_times_of_their_clusters():
    found = feed(webm_head() + cluster(0, *blocks([P20] * 2)) + cluster(1_000, *blocks([P20] * 2)))

    assert found == [RecordingStarted(), OpusHeader(1, 312, 0), *at(0, 20, 1_000, 1_020)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_however_it_is_cut_it_is_the_same(size):
    data = webm_head() + cluster(0, *blocks([P20, LONGER] * 3)) + cluster(500, *blocks([P20] * 3))

    assert feed(*sliced(data, [size])) == feed(data)


def test_sizes_may_be_known_and_elements_lie_between():
    inner = element(0xE7, b"\x07") + element(0xBF, bytes(4)) + element(0xAB, b"\x01") + simple_block(P20)
    segment = element(0x1549A966, element(0x2AD7B1, (500_000).to_bytes(3, "big")))
    segment += element(0xEC, bytes(1_000)) + element(0x1654AE6B, track(private=opus_head()))
    segment += element(0x1F43B675, inner) + element(0x1C53BB6B, bytes(50)) + element(0x1254C367, bytes(50))

    found = feed(element(0x1A45DFA3) + element(0x18538067, segment))

    assert found == [RecordingStarted(), OpusHeader(1, 312, 0), Packet(P20, 7 * MS // 2)]


def test_a_group_may_hold_less_than_its_packet():
    group = element(0xA0, element(0xA1, block(P20, 20)) + element(0x75A2, (13_500_000).to_bytes(4, "big")))

    found = feed(webm_head() + cluster(0, simple_block(P20), group))

    assert audio(found) == [Packet(P20, 0), Packet(P20, 20 * MS, keep=312)]


RECORDING = webm_head() + element(0x1C53BB6B, bytes(30)) + cluster(
    0, *blocks([LONGER] * 2), element(0xA0, element(0xA1, block(LONGER, 40)) + element(0x75A2, b"\0"))
) + cluster(60, simple_block(LONGER), simple_block(LONGER, number=2), element(0xEC, bytes(20)))  # fmt: skip


@given(end=st.integers(0, len(RECORDING)))
def test_an_element_that_was_never_continued_is_no_loss_unless_audio_is_in_it(end):
    ends = [at + len(LONGER) for at in range(len(RECORDING)) if RECORDING.startswith(LONGER, at)]
    picture = ends.pop()
    cut = any(whole - len(LONGER) < end < whole for whole in ends)
    # A packet in a group comes with the end of the group.
    of_group = ends[2] <= end < RECORDING.index(cluster(60)[:12], ends[2])

    found = feed(RECORDING[:end])

    assert [one for one in found if isinstance(one, Unreadable)] == [Unreadable("WebM ends inside an element")] * (
        cut or of_group
    )
    assert len(audio(found)) == sum(whole <= end for whole in ends) - of_group
    assert end < picture - len(LONGER) or not cut


def lace(kind, packets):
    sizes = [len(packet) for packet in packets]
    body = bytes([len(packets) - 1])
    if kind == 0x02:
        body += b"".join(b"\xff" * (size // 255) + bytes([size % 255]) for size in sizes[:-1])
    elif kind == 0x06:
        body += (0x4000 | sizes[0]).to_bytes(2, "big")
        steps = [after - size for size, after in pairwise(sizes[:-1])]
        body += b"".join((0x4000 | step + 0x1FFF).to_bytes(2, "big") for step in steps)
    return body + b"".join(packets)


@pytest.mark.parametrize(
    ("kind", "packets"),
    [
        (0x02, [P20, LONGER, P20]),
        (0x02, [LONGER, LONGER]),
        (0x04, [P20, P20, P20]),
        (0x06, [P20, LONGER, P20, LONGER]),
        (0x06, [LONGER]),
    ],
)
def test_packets_may_be_laced(kind, packets):
    body = lace(kind, packets) if len(packets) > 1 else b"\0" + packets[0]

    found = feed(webm_head() + cluster(100, simple_block(body, flags=kind)))

    assert audio(found) == [Packet(packet, (100 + 20 * n) * MS) for n, packet in enumerate(packets)]


@pytest.mark.parametrize("body", [b"\x05", b"\xff" + bytes(10), b"\x01\xff\xff", b"\x02\x90\x80", b"\x01\x7f"])
@pytest.mark.parametrize("kind", [0x02, 0x04, 0x06])
def test_lacing_that_makes_no_sense_costs_its_block(kind, body):
    found = feed(webm_head() + cluster(0, simple_block(body, flags=kind), simple_block(P20, 20)))

    assert audio(found) == [Packet(P20, 20 * MS, lost=True)]
    assert sum(isinstance(one, Unreadable) for one in found) >= 1


def test_pictures_beside_it_are_left_out():
    picture = simple_block(bytes(500_000), 10, number=2)
    head = webm_head(track(2, 1, b"V_VP8"), track(1, private=opus_head(channels=2)))

    found = feed(*sliced(head + cluster(0, picture, *blocks([P20] * 2), picture, simple_block(P20, 40)), [9_000]))

    assert found == [RecordingStarted(), OpusHeader(2, 312, 0), *at(0, 20, 40)]


@pytest.mark.parametrize(
    ("tracks", "reason"),
    [
        ([track(codec=b"A_VORBIS")], "WebM holds 'A_VORBIS', not Opus or samples"),
        ([track(codec=b"V_VP8", kind=1)], "WebM holds no audio, not Opus or samples"),
        ([track(1, 2, b"A_OPUS", opus_head(), element(0x6D80))], "WebM holds 'A_OPUS' encrypted or compressed, not Opus or samples"),
        ([track(private=opus_head(channels=3))], "Opus with 3 channels in 1 streams"),
        ([track(1, 2, b"A_OPUS", None, element(0xE1, element(0x9F, b"\x08")))], "Opus with 8 channels"),
        ([track(0, private=opus_head())], "WebM with a track number 0"),
        ([b"\xae\x50"], "an EBML element that is larger than the one around it"),
    ],
)  # fmt: skip
def test_what_is_not_opus_is_refused_once(tracks, reason):
    found = feed(webm_head(*tracks), *(cluster(n, *blocks([P20] * 5)) for n in range(5)))

    assert found == [RecordingStarted(), Unreadable(reason)]


def test_without_private_data_the_track_says_it():
    audio_element = element(0xE1, element(0x9F, b"\x02"))

    found = feed(
        webm_head(track(1, 2, b"A_OPUS", None, audio_element, element(0x56AA, (6_500_000).to_bytes(4, "big"))))
    )

    assert found[1] == OpusHeader(2, 312)


@pytest.mark.parametrize("cut", range(1, 40))
def test_after_damage_it_resumes_at_the_next_block(cut):
    good = b"".join(blocks([LONGER] * 6))
    damaged = good[: 400 + cut] + good[700:]

    found = feed(webm_head() + cluster(0), damaged)

    assert [packet.at for packet in audio(found) if packet.data == LONGER][-3:] == [60 * MS, 80 * MS, 100 * MS]
    assert sum(isinstance(one, Unreadable) for one in found) <= 2
    assert sum(packet.lost for packet in audio(found)) == 1


def test_a_size_that_swallows_what_follows_is_found_out():
    swallowing = bytearray(simple_block(P20))
    swallowing[7:9] = (1_000).to_bytes(2, "big")

    found = feed(webm_head() + cluster(0), bytes(swallowing), *blocks([LONGER] * 20, 20))

    assert [packet.at for packet in audio(found) if packet.data == LONGER] == [20 * n * MS for n in range(1, 21)]


def test_a_size_that_waits_for_what_never_comes_is_found_out_at_the_end():
    swallowing = bytearray(simple_block(P20))
    swallowing[7:9] = (16_000).to_bytes(2, "big")

    found = feed(webm_head() + cluster(0), bytes(swallowing), *blocks([LONGER] * 20, 20))

    assert [packet.at for packet in audio(found) if packet.data == LONGER] == [20 * n * MS for n in range(1, 21)]


def test_blocks_of_a_cluster_whose_stamp_was_lost_have_no_time():
    chunks = [
        webm_head() + cluster(0, *blocks([P20] * 3)),
        b"".join(blocks([P20] * 2, 20)),
        cluster(2_000, simple_block(P20)),
    ]

    found = feed(*chunks, lost={1})

    assert audio(found)[3:] == [
        Packet(P20, None, lost=True),
        Packet(P20, None, lost=True),
        Packet(P20, 2_000 * MS, lost=True),
    ]
    assert not any(isinstance(one, Unreadable) for one in found)


def test_a_size_that_no_block_has_is_none_to_resume_at():
    """Whatever the first byte is that comes."""
    absurd = b"\xa3\x10\xff\xff\xff\x81\0\0\x80"

    found = feed(
        webm_head() + cluster(0, simple_block(P20)), b"\xa3\0" + absurd + bytes(9) + simple_block(P20), lost={1}
    )

    assert found[3:] == [Packet(P20, 0, lost=True)]


def test_what_is_left_of_a_picture_after_a_loss_is_no_news():
    picture = simple_block(bytes(100_000), 10, number=2)
    head = webm_head(track(2, 1, b"V_VP8"), track(1, private=opus_head()))
    chunks = sliced(head + cluster(0, simple_block(P20), picture, simple_block(P20, 20)), [9_000])

    found = feed(*chunks[:2], *chunks[3:], lost={2})

    assert found[2:] == [Packet(P20, 0), Packet(P20, 20 * MS, lost=True)]


def test_who_joins_late_takes_the_first_track_that_sounds_like_opus():
    picture = simple_block(bytes(9_000), number=2)

    found = feed(cluster(0, picture, *blocks([P20] * 2), picture) + cluster(100, simple_block(P20)))

    assert audio(found) == at(0, 20, 100)


def test_who_joins_late_learns_that_there_are_pictures_and_how_large_they_may_be():
    small, large = simple_block(bytes(9_000), number=2), simple_block(bytes(500_000), number=2)
    data = cluster(0, simple_block(P20), small, simple_block(P20, 20), large, simple_block(P20, 40))

    assert feed(*sliced(data, [9_000])) == at(0, 20, 40)


def test_a_header_begins_another_recording():
    one = webm_head() + cluster(0, *blocks([P20]))

    assert feed(one + one) == [RecordingStarted(), OpusHeader(1, 312, 0), *at(0)] * 2


@pytest.mark.parametrize("size", [b"\x01" + b"\xff" * 7, b"\x01\0\0\0\x7f\xff\xff\xff", b"\x08\xff\xff\xff\xff"])
def test_absurd_sizes_hold_nothing_up(size):
    found = feed(webm_head() + cluster(0, *blocks([P20])), b"\xa3" + size + b"\x81", *blocks([LONGER] * 2, 20))

    assert [packet.data for packet in audio(found)] == [P20, LONGER, LONGER]


def test_an_unknown_segment_inside_a_segment_is_no_harm():
    assert audio(feed(webm_head() + unsized(0x18538067) + cluster(5, simple_block(P20)))) == at(5)
