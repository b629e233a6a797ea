"""The page in a real browser that hears speech, with a real gateway, daemon and broker: what is recorded, sent and transcribed."""

import json
import re
import wave
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from tests.support.browser import chromium, opened, program, violations, wait_for
from tests.support.clip_requests import wav
from tests.support.durable_streams import provisioned
from tests.support.gateway import GatewayProcess
from tests.support.loop_thread import LoopThread
from tests.support.page_audio import PageAudio, s16_frames, webm_frames
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.schema.messages import End, Gap
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.faulty_proxy import FaultyProxy
from transcriber.testing.speech import load_speech

RATE = 48_000
GALE, BERTH, *_ = load_speech()
WARNING = GALE.pcm[: 2 * RATE * 26 // 10]
"""The first sentence."""
PAUSE = bytes(2 * RATE * 2)
SPOKEN_S = 8.5
"""Where the second recording's first sentence is over."""
OFFLINE_S = 5
SLICE_S = 0.3
"""A little more than a recorder's slice."""
RED = "rgb(179, 38, 30)"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A broker, a daemon, and a gateway behind a network that can break; ``heard`` is all that the daemon says."""
    program()  # before anything is started in vain
    folder = tmp_path_factory.mktemp("room")
    with EmbeddedBroker(store=folder / "store") as broker, LoopThread() as loop:
        loop.run(provisioned(broker, files=True))
        with DaemonProcess(broker.url, FILES="1") as daemon:
            assert loop.run(daemon.ready()), daemon.log()
            heard = loop.enter(TranscriptListener(broker.url))
            network = loop.enter(FaultyProxy(0))
            yield SimpleNamespace(
                broker=broker, loop=loop, heard=heard, network=network, url=f"http://127.0.0.1:{network.port}"
            )


@pytest.fixture(scope="module")
def gateway(room):
    with joined(room) as running:
        yield running


@contextmanager
def joined(room):
    """A gateway, to which the network leads meanwhile."""
    before = room.network.target_port
    with GatewayProcess(room.broker.url) as running:
        room.network.target_port = int(running.url.rpartition(":")[2])
        try:
            yield running
        finally:
            room.network.black_hole(on=False)
            room.network.target_port = before


@pytest.fixture(scope="module")
def browser(room, tmp_path_factory):
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(WARNING + PAUSE + BERTH.pcm + PAUSE)
    with chromium(speech) as found:
        yield found


@pytest.fixture
def upload(browser, room, gateway):
    """The upload's page."""
    with opened(browser, f"{room.url}/#/upload") as page:
        yield page


@pytest.fixture
def microphone(browser, room, gateway):
    """The microphone's page, and what it publishes."""
    with opened(browser, f"{room.url}/#/microphone") as page:
        yield page, PageAudio(page)


def record(page, stream, form):
    page.get_by_label("Stream").fill(stream)
    page.get_by_label("Audio").select_option(form)
    page.get_by_role("button", name="Record").click()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def stop(page):
    press(page, "Stop")
    page.locator(".state", has_text="Stopped").wait_for()


def words(text):
    return re.findall(r"[a-z]+", text.lower())


def account(room, stream, sessions=1):
    """The sessions of a stream, once so many have ended; each is tiled by what became of its frames."""
    room.loop.run(until(lambda: len(room.heard.of(End, stream)) >= sessions, f"{sessions} ends"))
    room.heard.check_accounts()
    return {end.session: end for end in room.heard.of(End, stream)}


def figures(page):
    return page.locator("#account").inner_text()


def figure(page, name):
    """A number of seconds, such as of those ``received``; 0 if it is not there."""
    found = re.search(rf"([\d.]+) s {name}", figures(page))
    return float(found[1]) if found else 0


SPOKEN = """() => {
  window.spoken = { ended_ms: 0, shown_ms: 0 };
  setInterval(() => {
    if (document.querySelector("meter").value > -50) spoken.ended_ms = spoken.shown_ms ? spoken.ended_ms : performance.now();
    if (document.querySelector(".final")) spoken.shown_ms ||= performance.now();
  }, 10);
}"""


def test_words_are_on_the_page_within_two_seconds_of_the_end_of_an_utterance(room, microphone):
    page, audio = microphone
    page.evaluate(SPOKEN)
    watch = Stopwatch()
    record(page, "desk", "S16LE")
    page.locator(".final").wait_for()
    starved_s = watch.starved_s
    spoken = page.evaluate("spoken")
    stop(page)
    page.locator(".captions .end").wait_for()

    latency_s = (spoken["shown_ms"] - spoken["ended_ms"]) / 1000
    print(f"{latency_s:.2f} s from the end of an utterance to its words; {starved_s:.1f} s without a processor")
    assert words(page.locator(".final .text").first.inner_text()) == words(
        "Gale warning for the north channel tonight."
    )
    assert 0 < latency_s < 2 + starved_s
    [(session, connections)] = audio.sessions.items()
    end = account(room, "desk")[session]
    assert s16_frames(connections) == end.frames == end.received_frames
    assert (end.lost_frames, end.dropped_frames) == (0, 0)
    assert figures(page) == f"{end.received_s:.1f} s received · nothing missing"
    assert (
        page.locator(".captions .end .text").inner_text()
        == f"Session ended: {end.received_s:.1f} s received, nothing lost"
    )


def test_a_recorder_is_paused_resumed_stopped_and_started_again(room, microphone):
    page, audio = microphone
    record(page, "radio-1", "container")
    page.locator(".partial", has_text="Gale").wait_for()
    press(page, "Pause")
    page.locator(".state", has_text="Paused").wait_for()
    sent = len(audio.connections[0].data)
    page.locator(".final").wait_for()
    assert len(audio.connections[0].data) == sent
    assert page.locator("meter").evaluate("meter => meter.value") == -60
    assert violations(page) == {}
    press(page, "Resume")
    wait_for(page, lambda: len(audio.connections[0].data) > sent)
    stop(page)
    press(page, "Record")
    page.locator(".final").nth(1).wait_for()
    assert "nothing missing" in figures(page)
    # As one who leaves. What is sent as a page goes may get lost in the browser itself where the machine is busy, so this one stays.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")

    ends = account(room, "radio-1", 2)
    said = [one for one in room.heard.messages if one.stream == "radio-1"]
    assert any(getattr(one, "flushed", False) or getattr(one, "state", "") == "flushed" for one in said)
    second = [one for one in said if one.session == list(audio.sessions)[1]]
    assert "stalled" not in [getattr(one, "state", "") for one in second]  # it was ended, not left
    assert len(audio.sessions) == 2
    for session, connections in audio.sessions.items():
        end = ends[session]
        assert (end.lost_frames, end.dropped_frames) == (0, 0)
        assert end.received_frames == webm_frames(connections[0].data)


def test_a_network_that_is_away_for_five_seconds_costs_no_frame_of_pcm(room, microphone):
    page, audio = microphone
    record(page, "radio-2", "S16LE")
    page.locator(".partial").wait_for()
    room.loop.run(_black_hole(room.network, on=True))
    page.wait_for_timeout(OFFLINE_S * 1000)
    assert page.locator(".state[data-state=offline]").inner_text() == "Offline: the gateway does not answer"
    assert "held until there is a connection" in figures(page)
    room.loop.run(_black_hole(room.network, on=False))
    page.locator(".state", has_text="Recording").wait_for()
    wait_for(page, lambda: figure(page, "received") > SPOKEN_S)
    stop(page)
    page.locator(".captions .end").wait_for()

    [(session, connections)] = audio.sessions.items()
    end = account(room, "radio-2")[session]
    assert len([one for one in connections if one.pieces]) == 2
    assert s16_frames(connections) == end.frames == end.received_frames > RATE * OFFLINE_S
    assert room.heard.of(Gap, "radio-2") == []
    assert "Harbour control" in room.heard.text("radio-2")  # which was said meanwhile
    assert figures(page) == f"{end.received_s:.1f} s received · nothing missing"


async def _black_hole(network, *, on):
    network.black_hole(on)


def test_what_is_lost_with_a_gateway_is_a_red_gap_with_its_reason(room, browser):
    with joined(room) as first, opened(browser, f"{room.url}/#/microphone") as page:
        audio = PageAudio(page)
        record(page, "radio-3", "container")
        page.locator(".final").wait_for()
        room.loop.run(_black_hole(room.network, on=True))
        sent = len(audio.connections[0].pieces)
        wait_for(page, lambda: len(audio.connections[0].pieces) > sent + 1)
        first.process.kill()
        with joined(room):
            room.loop.run(room.network.cut())
            page.locator(".state[data-state=offline]").wait_for()
            wait_for(page, lambda: "held" in figures(page))
            room.loop.run(_black_hole(room.network, on=False))
            page.locator(".state", has_text="Recording").wait_for()
            page.locator(".away").wait_for()
            page.locator(".gap").wait_for()
            colour = page.locator(".gap").evaluate("gap => getComputedStyle(gap).color")
            shown = page.locator(".gap .text").inner_text()
            stop(page)
            page.locator(".captions .end").wait_for()
            missing_s = figure(page, "missing")
            ended = page.locator(".captions .end .text").inner_text()

    [(session, [broken, *_])] = audio.sessions.items()
    end = account(room, "radio-3")[session]
    confirmed = broken.data[: broken.confirmed_bytes]
    under_way_s = (webm_frames(broken.data) - webm_frames(confirmed)) / RATE
    print(f"{missing_s} s missing, {end.lost_s:.2f} s lost, {under_way_s:.2f} s under way")
    assert end.received_frames + end.lost_frames == end.frames
    # What was sent and not confirmed: all that was lost, and what arrived after the last position that got through.
    assert missing_s == pytest.approx(under_way_s, abs=SLICE_S)
    assert missing_s > end.lost_s - SLICE_S
    assert ended == f"Session ended: {end.received_s:.1f} s received, {end.lost_s:.1f} s lost"
    assert shown == f"{end.lost_s:.1f} s not transcribed: lost_input"
    assert colour == RED


def test_a_long_pause_ends_the_session(room, browser, gateway):
    with opened(browser, f"{room.url}/#/key") as page:
        page.clock.install()
        page.get_by_role("link", name="Microphone").click()
        record(page, "radio-4", "S16LE")
        wait_for(page, lambda: figure(page, "received"))
        press(page, "Pause")
        page.locator(".state", has_text="Paused").wait_for()
        page.clock.fast_forward(20_000)
        page.locator(".state", has_text="Stopped after a long pause").wait_for()
        assert page.get_by_role("button", name="Record").is_enabled()

    account(room, "radio-4")


UNPLUGGED = """(at_once) => {
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const [track] = (window.heard = await ask(wanted)).getAudioTracks();
    window.unplug = () => {
      track.stop();
      track.dispatchEvent(new Event("ended"));
    };
    if (at_once) setTimeout(unplug);
    return heard;
  };
}"""


@pytest.mark.parametrize("form", ["container", "S16LE"])
def test_a_microphone_that_is_unplugged_ends_the_session_with_all_that_it_heard(room, browser, gateway, form):
    with opened(browser, f"{room.url}/#/microphone") as page:
        page.evaluate(UNPLUGGED, False)
        record(page, f"unplugged-{form}", form)
        wait_for(page, lambda: figure(page, "received") > 1)
        page.evaluate("unplug()")
        page.locator(".state", has_text="The microphone was unplugged").wait_for()
        assert page.get_by_role("button", name="Record").is_enabled()
        assert page.get_by_role("button", name="Stop").is_disabled()
        received_s = figure(page, "received")
        assert "nothing missing" in figures(page)

    (end,) = account(room, f"unplugged-{form}").values()
    assert end.received_s == pytest.approx(received_s, abs=SLICE_S)


def test_a_microphone_that_is_unplugged_as_the_recording_begins_is_said_and_left(browser, room, gateway):
    with opened(browser, f"{room.url}/#/microphone") as page:
        page.evaluate(UNPLUGGED, True)
        record(page, "unplugged", "S16LE")
        page.locator(".state", has_text="The microphone was unplugged").wait_for()
        assert page.get_by_role("button", name="Record").is_enabled()


def test_a_page_that_is_not_secure_says_what_the_microphone_needs(room, browser, gateway):
    with opened(browser, f"{room.url}/#/key") as page:
        page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
        page.get_by_role("link", name="Microphone").click()

        assert page.get_by_role("alert").inner_text() == "The microphone needs HTTPS or localhost."


def jobs(room):
    return httpx.get(f"{room.url}/v1/jobs").json()["jobs"]


def chosen(page, name, data):
    page.get_by_label("Audio or video").set_input_files({"name": name, "mimeType": "audio/wav", "buffer": data})
    page.get_by_role("button", name="Transcribe").click()


def downloaded(page):
    """The four files, by the end of their names."""
    found = {}
    for form in ("TXT", "SRT", "VTT", "JSON"):
        with page.expect_download() as download:
            press(page, form)
        found[download.value.suggested_filename] = download.value.path().read_text()
    return found


def test_an_upload_is_followed_by_its_job_and_gives_its_text_in_four_forms(room, upload):
    chosen(upload, "harbour.wav", wav(GALE.pcm + BERTH.pcm + GALE.pcm, rate=RATE))
    # Of a job that is over before anybody looks it is hidden again.
    upload.locator("#progress", has_text="of 27.2 s transcribed").wait_for(state="attached")
    upload.locator("#result", has_text="Gale warning").wait_for()  # as it goes
    upload.get_by_text("Done: 27.2 s of audio, language en.").wait_for()
    assert violations(upload) == {}
    files = downloaded(upload)
    [record] = [one for one in jobs(room) if "harbour" in one["submission"]["object"]]
    job = record["submission"]["job"]

    assert list(files) == ["harbour.txt", "harbour.srt", "harbour.vtt", "harbour.json"]
    assert record["state"] == "done"
    ours = httpx.get(f"{room.url}/v1/jobs/{job}/transcript.txt").text
    assert files["harbour.txt"].split() == upload.locator("#result").inner_text().split() == ours.split()
    for form in ("srt", "vtt"):
        theirs = httpx.get(f"{room.url}/v1/jobs/{job}/transcript.{form}").text
        assert re.findall(r".* --> .*", files[f"harbour.{form}"]) == re.findall(r".* --> .*", theirs)
    assert files["harbour.vtt"].startswith("WEBVTT\n\n")
    assert json.loads(files["harbour.json"])["duration"] == pytest.approx(27.2, abs=0.1)


def test_what_fits_into_a_request_needs_no_job(upload):
    chosen(upload, "gale.wav", wav(WARNING, rate=RATE))
    upload.get_by_text("Done: 2.6 s of audio, language en.").wait_for()

    assert downloaded(upload)["gale.srt"].startswith("1\n00:00:00,")


def test_an_upload_that_is_cancelled_or_refused_says_so(room, upload):
    chosen(upload, "long.wav", wav(3 * GALE.pcm, rate=RATE))
    upload.locator("#progress", has_text="transcribed").wait_for()
    press(upload, "Cancel")
    upload.locator(".state", has_text="Cancelled.").wait_for()
    own = [one["submission"]["job"] for one in jobs(room) if "long" in one["submission"]["object"]]
    assert own
    wait_for(upload, lambda: {one["state"] for one in jobs(room) if one["submission"]["job"] in own} == {"cancelled"})
    chosen(upload, "noise.wav", b"no audio at all, but long enough to look at")
    upload.locator(".state[data-state=offline]", has_text="audio").wait_for()
