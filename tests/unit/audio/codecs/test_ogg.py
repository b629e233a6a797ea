import pytest
from hypothesis import given, strategies as st

from tests.support.webm_ogg import ogg_page, opus_head
from transcriber.audio.codecs.ogg import OggDemuxer
from transcriber.audio.codecs.opus import OpusHeader, Packet, RecordingStarted, Unreadable

P20 = b"\xf8\xff\xfe"  # 20 ms of silence
HEAD = ogg_page(opus_head(), flags=2)
TAGS = ogg_page(b"OpusTags" + bytes(16), sequence=1)


def feed(*chunks, lost=()):
    demuxer = OggDemuxer()
    found = [one for n, chunk in enumerate(chunks) for one in demuxer.feed(chunk, lost=n in lost)]
    return found + list(demuxer.finish())


def page(number, count=1, **options):
    """Page ``number`` of the audio, with ``count`` packets of 20 ms; each page before it had one."""
    granule = options.pop("granule", 960 * (number + count))
    return ogg_page(P20 * count, granule=granule, sequence=number + 2, lacing=bytes([3] * count), **options)


def test_packets_have_the_times_that_the_granules_say():
    found = feed(HEAD + TAGS + page(0, 3) + page(1, 1, granule=960 * 4))

    assert found == [RecordingStarted(), OpusHeader(1, 312, 0), *(Packet(P20, 960 * n) for n in range(4))]


def test_a_hole_in_the_granules_lies_before_the_page():
    found = feed(HEAD + TAGS + page(0) + page(1, granule=96_000))

    assert [one.at for one in found[2:]] == [0, 96_000 - 960]


def test_a_stream_that_was_joined_by_its_server_begins_at_its_first_granule():
    found = feed(HEAD + TAGS + page(0, granule=480_960))

    assert found[-1] == Packet(P20, 480_000)


def test_the_last_page_may_hold_less_than_its_packets():
    found = feed(HEAD + TAGS + page(0) + page(1, 3, granule=960 + 1_000, flags=4))

    assert found[-3:] == [Packet(P20, 960), Packet(P20, 1_920, keep=40), Packet(P20, 2_880, keep=0)]


def test_the_only_page_may_hold_less_than_its_packet():
    found = feed(HEAD + TAGS + page(0, granule=500, flags=4))

    assert found[-1] == Packet(P20, 0, keep=500)


def test_a_packet_may_span_pages():
    packet = b"\xf8" + bytes(600)
    first = ogg_page(packet[:510], granule=-1, sequence=2, lacing=b"\xff\xff")
    second = ogg_page(packet[510:], granule=960, flags=1, sequence=3)

    assert feed(HEAD + TAGS + first + second)[-1] == Packet(packet, 0)
    assert feed(HEAD + TAGS + first, second + page(2, granule=1_920), lost={1})[-2:] == [
        OpusHeader(1, 312, 0),
        Packet(P20, 960, lost=True),
    ]


def test_a_page_that_is_missing_is_known_by_its_number():
    found = feed(HEAD + TAGS + page(0) + page(2))

    assert found[-1] == Packet(P20, 1_920, lost=True)


@pytest.mark.parametrize("at", range(len(page(1))))
def test_one_flipped_bit_costs_its_page(at):
    damaged = bytearray(page(1))
    damaged[at] ^= 4

    found = feed(HEAD + TAGS + page(0), bytes(damaged), page(2), page(3))

    assert [one for one in found if isinstance(one, Packet)] == [
        Packet(P20, 0), Packet(P20, 1_920, lost=True), Packet(P20, 2_880),
    ]  # fmt: skip
    assert sum(isinstance(one, Unreadable) for one in found) == 1


def test_a_page_that_claims_to_be_long_does_not_hold_up_those_after_it():
    claim = b"OggS" + bytes(22) + b"\xff" + b"\xff" * 255

    found = feed(HEAD + TAGS + page(0), claim, page(1))

    assert found[-1] == Packet(P20, 960, lost=True)


def test_other_streams_beside_it_are_left_out():
    theora = ogg_page(b"\x80theora...", flags=2, serial=1)
    picture = ogg_page(b"picture", serial=1, sequence=1)

    found = feed(theora + HEAD + picture + TAGS + page(0) + picture + page(1))

    assert found == [RecordingStarted(), OpusHeader(1, 312, 0), Packet(P20, 0), Packet(P20, 960)]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\x01vorbis...", "Ogg holds Vorbis, not Opus"),
        (b"\x7fFLAC...", "Ogg holds FLAC, not Opus"),
        (b"nonsense", "Ogg holds something, not Opus"),
        (opus_head(channels=6, family=1, tail=b"\x04\x02" + bytes(6)), "Opus with 6 channels in 4 streams"),
        (opus_head(channels=2, family=255, tail=b"\x02\x00\x00\x01"), "Opus with 2 channels in 2 streams"),
        (b"OpusHead\x01", "an Opus header that cannot be read"),
    ],
)
def test_what_is_not_opus_is_refused_once(head, reason):
    found = feed(ogg_page(head, flags=2), *(page(number) for number in range(5)))

    assert found == [RecordingStarted(), Unreadable(reason)]


def test_a_chain_is_several_recordings():
    second = ogg_page(opus_head(channels=2, pre_skip=0), flags=2, serial=8)

    tags = ogg_page(b"OpusTags" + bytes(16), sequence=1, serial=8)

    found = feed(HEAD + TAGS + page(0, flags=4) + second + tags + page(0, serial=8))

    assert found[3:] == [RecordingStarted(), OpusHeader(2, 0, 0), Packet(P20, 0)]


def test_a_recording_whose_header_was_lost_is_another_one_all_the_same():
    found = feed(HEAD + TAGS + page(0), page(50, serial=9), lost={1})

    assert found[-2:] == [RecordingStarted(), Packet(P20, 960 * 50)]


def test_a_packet_that_is_none_is_reported():
    bad = ogg_page(b"\xff\xff", granule=1_920, sequence=3)

    found = feed(HEAD + TAGS + page(0) + bad + page(2))

    assert found[-2:] == [Unreadable("an Opus packet of 63 frames of 20 ms"), Packet(P20, 1_920, lost=True)]


def test_an_end_inside_a_page_is_reported():
    assert isinstance(feed(HEAD + TAGS + page(0) + page(1)[:-1])[-1], Unreadable)


WHOLE = HEAD + ogg_page(b"OpusTags" + bytes(300), sequence=1) + page(0, 3) + page(1, 2, granule=4_800)


@given(end=st.integers(0, len(WHOLE)))
def test_a_page_that_was_never_continued_is_no_loss_unless_audio_is_in_it(end):
    second, first = len(WHOLE) - 2 * len(P20), len(WHOLE) - len(page(1, 2)) - 3 * len(P20)

    found = feed(WHOLE[:end])

    cut = first < end < first + 3 * len(P20) or second < end < len(WHOLE)
    assert [one for one in found if isinstance(one, Unreadable)] == [Unreadable("Ogg ends inside a page")] * cut


def test_a_packet_that_was_never_continued_is_reported():
    begun = ogg_page(b"\xf8" * 255, granule=-1, sequence=2, lacing=b"\xff")

    assert feed(HEAD + TAGS + begun)[-1] == Unreadable("Ogg ends inside a packet")
    assert not any(
        isinstance(one, Unreadable)
        for one in feed(HEAD + ogg_page(b"OpusTags" + bytes(247), sequence=1, lacing=b"\xff"))
    )
    assert not any(
        isinstance(one, Unreadable)
        for one in feed(
            ogg_page(b"\x01vorbis" + bytes(9), flags=2, serial=8) + HEAD + TAGS + page(0) + page(1, serial=8)[:-1]
        )
    )
