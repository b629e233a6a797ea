import json
from itertools import count

import numpy as np
import pytest
import soundfile

from bench import words as bench_words
from bench.lib.daemon import PLAIN, StubbedDaemon
from bench.lib.paced import PAYLOAD_S
from bench.lib.playing import LINEAR, TELEPHONE, Player, player
from bench.lib.speech.noise import ALL_KINDS
from bench.lib.words.reference import IN_ONE_GO
from tests.support.bench_recordings import MESSAGE, SECOND, no_synthesiser, played, recording
from transcriber.schema.messages import End, Gap


async def test_recordings_are_played_to_their_ends_each_message_with_its_time(broker):
    some = [recording("over", 3.1), recording("over", 2.0), recording("over", 1.5)]
    with StubbedDaemon(broker.url, BUFFER_DURATION_SECS="1", **PLAIN) as daemon:
        async with player(daemon, broker.url) as ready:
            speed, linear = await ready.play_without_loss(some, LINEAR, 20.0, at_once=2)
            _, telephone = await ready.play_without_loss(some[:1], TELEPHONE, 20.0, at_once=2)

    assert speed == 20.0
    assert [len(one.finals) for one in linear] == [4, 2, 2]
    assert [one.cuts_s for one in linear] == [[1.0, 2.0, 3.0], [1.0], [1.0]]
    assert [len(one.published_s) for one in linear] == [155, 100, 75]
    assert all(isinstance(one.came[-1].message, End) and not one.gaps for one in [*linear, *telephone])
    assert telephone[0].end.received_frames == 3.1 * 8_000
    for one in linear:
        for at_s, final in one.finals:
            assert at_s > one.published_at_s(final.start + final.duration - PAYLOAD_S)
    assert linear[2].published_s[0] > min(linear[0].published_s[-1], linear[1].published_s[-1])  # two at once


async def test_what_lost_audio_is_played_again_more_slowly_then_fewer_at_once_but_not_below_real_time(monkeypatch):
    tried: list[tuple[float, int]] = []
    gap = Gap.model_validate(
        MESSAGE
        | {"start_frame": 0, "frames": 1, "start": 0.0, "duration": 1.0, "reason": "queue_full", "speaker": None}
    )

    async def play(self, recordings, wire, speed, at_once):
        tried.append((speed, at_once))
        return [played(one, (1.0, gap)) if speed * at_once > slow_enough else played(one) for one in recordings]

    monkeypatch.setattr(Player, "play", play)
    ready = Player(None, None, count(), 0.1)  # type: ignore[arg-type]
    slow_enough = 12.0

    speed, came = await ready.play_without_loss([recording("a", 1.0)], LINEAR, 10.0, 4)
    assert (speed, tried, len(came)) == (2.5, [(10.0, 4), (5.0, 4), (2.5, 4)], 1)

    tried.clear()
    slow_enough = 0.5
    with pytest.raises(SystemExit, match=r"audio was lost \(queue_full\), one recording at a time, as fast as spoken"):
        await ready.play_without_loss([recording("a", 1.0)], LINEAR, 1.5, 4)

    assert tried == [(1.5, 4), (1.0, 4), (1.0, 2), (1.0, 1)]


async def test_a_daemon_that_does_not_start_ends_the_bench(broker):
    with StubbedDaemon(broker.url, BUFFER_DURATION_SECS="0") as daemon, pytest.raises(SystemExit, match="BUFFER_DURA"):
        await player(daemon, broker.url).__aenter__()


@pytest.mark.long
def test_the_whole_bench_on_recordings_of_ones_own(tmp_path, monkeypatch, capsys):
    words = [{"word": f"over{n}", "start": n / 2, "end": n / 2 + 0.4} for n in range(6)]
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(4 * SECOND), SECOND)
    said = {"text": " ".join(f"over{n}" for n in range(6)), "words": words}
    (tmp_path / "transcripts.json").write_text(json.dumps([{"file": f"{name}.wav"} | said for name in "ab"]))
    monkeypatch.setattr(bench_words, "MeasuredDaemon", StubbedDaemon)
    monkeypatch.setattr(bench_words, "ways", lambda *_: {IN_ONE_GO: lambda _: "over0"})
    monkeypatch.setattr(bench_words, "QUICK_FALSE_TEXT_S", 6.0)
    monkeypatch.setattr(bench_words, "ALWAYS", PLAIN)
    monkeypatch.setitem(ALL_KINDS, "babble", no_synthesiser)

    results = bench_words.measure(
        quick=True, model="demo", corpus=tmp_path, language="en", speed=None, variants="",
        parts=",".join(bench_words.PARTS), at_once=4, clean=False, minutes=0.0, hours=0.0, table=True,
    )  # fmt: skip

    assert results["recordings"] == {"yours": 2}
    assert results["reference"]["yours"]["in_one_go"]["wer_percent"] == 83.33
    assert set(results["words"]) == {"fixed", "quiet_endpoint"}
    assert results["words"]["fixed"]["yours"]["wer_percent"] == 200.0  # all changed, and as many more
    assert results["delays"]["quiet_endpoint"]["yours"]["words"] == 12
    assert results["false_text"]["gate_off"]["silence"]["words"] == 24
    assert results["false_text"]["gate_off"]["silence"]["words_per_hour"] == 24 * 600
    assert set(results["seconds"]) >= {"reference", "words, fixed", "false text, gate_on"}
    assert "| fixed cut | 200 % (200.0 to 200.0) |" in capsys.readouterr().out
