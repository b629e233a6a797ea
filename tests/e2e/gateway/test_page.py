"""The page in a real browser, with its fake microphone; what the daemons say is scripted."""

import pytest

from tests.support.browser import axe_core, chromium, opened, violations
from tests.support.page_stub import PageStub

RATE = 16_000
SIZES = ({"width": 1280, "height": 800}, {"width": 390, "height": 800})


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def stub():
    with PageStub() as found:
        yield found


def message(kind, second, stream="radio-1", speaker=None, **fields):
    about = {"stream": stream, "session": "s", "rate": RATE, "start_frame": second * RATE, "frames": RATE}
    times = {"start": float(second), "duration": 1.0, "speaker": speaker, "rev": 0, "segment": second}
    return {"schema": 1, "type": kind} | about | times | fields


def figure(stream, **fields):
    base = {
        "stream": stream,
        "session": "s",
        "state": "started",
        "rate": RATE,
        "received_frames": 1,
        "level_dbfs": -20.0,
    }
    return base | {"speaking": False, "last_text_at": None, "lag_s": 0.4, "lost_s": 0.0} | fields


def heard(page, stub, stream="radio-1"):
    """Wait until the page listens to a stream."""
    wait_for(page, lambda: stub.listeners(stream))


def wait_for(page, condition):
    """Wait for something outside the page, while the browser's events are handled."""
    for _ in range(6000):
        if found := condition():
            return found
        page.wait_for_timeout(20)
    raise AssertionError("waited in vain")


def frames_of(connections):
    return [frame for connection in connections for frame in connection["frames"]]


def test_streams_daemons_and_their_words_are_on_the_start_page(browser, stub):
    stub.figures = [figure("radio-1", speaking=True), figure("desk", state="stalled", lost_s=2.3)]
    with opened(browser, stub.url) as page:
        heard(page, stub)
        stub.say(**message("final", 1, text="Pilot boat, over.", speaker="1"))
        metrics = {"transcriber.queue.depth": 2, "transcriber.queue.capacity": 16, "transcriber.worker.busy": 0.42}
        metrics |= {"transcriber.jobs.dropped": {"queue_full": 3}}
        stub.show("metrics", {"instance": "harbour", "metrics": metrics})

        page.get_by_text("Pilot boat, over.").wait_for()
        page.get_by_role("row", name="harbour 2 of 16 42 % 3").wait_for()
        first, second = page.locator(".card").all()
        assert "Speaker 1" in first.inner_text()
        assert "speaking" in first.inner_text()
        assert first.locator("meter").evaluate("meter => meter.value") == -20
        assert [text for text in ("stalled", "2.3 s lost") if text in second.inner_text()] == ["stalled", "2.3 s lost"]


def test_agreed_words_are_firm_guesses_grey_and_a_final_takes_their_place(browser, stub):
    with opened(browser, f"{stub.url}/#/streams/radio-1") as page:
        heard(page, stub)
        stub.say(**message("partial", 1, text="We are coming"))
        stub.say(**message("partial", 1, text="We are calling you"))
        page.locator(".partial .guess", has_text="calling you").wait_for()
        assert page.locator(".partial .firm").inner_text() == "We are"
        assert page.locator("#announcer").inner_text() == ""

        stub.say(**message("final", 1, text="We are calling you now."))
        page.locator(".final", has_text="We are calling you now.").wait_for()
        assert page.locator(".partial").count() == 0
        assert page.locator("#announcer").inner_text() == "We are calling you now."


def test_a_gap_is_shown_with_reason_and_detail_and_a_revision_replaces_it_quietly(browser, stub):
    with opened(browser, f"{stub.url}/#/streams/radio-1") as page:
        heard(page, stub)
        stub.say(**message("final", 1, text="Before."))
        stub.say(**message("gap", 2, reason="queue_full", detail="sixteen wait"))
        gap = page.locator(".gap")
        gap.wait_for()
        assert "1.0 s not transcribed: queue_full (sixteen wait)" in gap.inner_text()

        stub.say(**message("revision", 2, text="Tide turns.", last_segment=2, replaces=["radio-1:s:0:32000:gap:0"]))
        page.locator(".revision", has_text="Tide turns.").wait_for()
        assert gap.count() == 0
        assert page.locator(".captions li .firm").all_inner_texts() == ["Before.", "Tide turns."]
        assert "Tide turns." not in page.locator("#announcer").inner_text()


def test_text_is_never_html(browser, stub):
    with opened(browser, f"{stub.url}/#/streams/radio-1") as page:
        heard(page, stub)
        stub.say(**message("final", 1, text="<img src=x onerror=alert(1)><b>bold</b>"))

        page.get_by_text("<img src=x onerror=alert(1)><b>bold</b>").first.wait_for()
        assert page.locator("main img, main b").count() == 0


def test_pcm_is_published_frame_after_frame_and_resumed_where_the_broker_was(browser, stub):
    with opened(browser, f"{stub.url}/#/microphone") as page:
        page.get_by_label("Audio").select_option("S16LE")
        page.get_by_role("button", name="Record").click()
        wait_for(page, lambda: any(b"".join(frames_of(stub.audio))))  # the fake microphone beeps once a second
        frames = stub.position = len(b"".join(frames_of(stub.audio)[:-1])) // 2 - 100
        stub.break_audio()
        wait_for(page, lambda: len(stub.audio) == 2 and stub.audio[1]["frames"])
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped.").wait_for()

    first, second = stub.audio
    before, after = b"".join(first["frames"]), b"".join(second["frames"])
    assert first["query"]["session"] == second["query"]["session"]
    assert first["query"]["content_type"].startswith("audio/x-raw;format=S16LE;rate=")
    overlap = before[2 * frames :]
    assert any(overlap)
    assert after[: len(overlap)] == overlap
    assert second["commands"][-1] == {"type": "end"}
    assert all(command["type"] != "offset" for command in second["commands"])


def test_the_browsers_own_recorder_publishes_webm_until_it_is_stopped_and_again_as_another_session(browser, stub):
    with opened(browser, f"{stub.url}/#/microphone") as page:
        for number in range(2):
            page.get_by_role("button", name="Record").click()
            wait_for(page, lambda count=number: len(stub.audio) > count and len(stub.audio[count]["frames"]) >= 2)
            page.get_by_role("button", name="Text now").click()
            page.get_by_role("button", name="Stop").click()
            page.get_by_text("Stopped.").wait_for()

    for connection in stub.audio:
        assert connection["query"]["content_type"] == "audio/webm"
        assert connection["frames"][0][:4] == b"\x1a\x45\xdf\xa3"
        assert [command["type"] for command in connection["commands"]] == ["flush", "end"]
    assert stub.audio[0]["query"]["session"] != stub.audio[1]["query"]["session"]


def test_offline_is_said_and_what_was_recorded_meanwhile_is_sent_afterwards(browser, stub):
    with opened(browser, f"{stub.url}/#/microphone") as page:
        page.get_by_label("Audio").select_option("F32LE")
        page.get_by_role("button", name="Record").click()
        wait_for(page, lambda: frames_of(stub.audio))
        page.context.set_offline(True)
        page.locator("#account", has_text="Offline").wait_for()
        stub.position = len(b"".join(stub.audio[0]["frames"])) // 4
        page.context.set_offline(False)
        page.locator("#account", has_text="Connected").wait_for()
        wait_for(page, lambda: len(frames_of(stub.audio[1:])) >= 3)
        assert "missing" not in page.locator("#account").inner_text()


def test_a_page_that_is_not_secure_says_what_the_microphone_needs(browser, stub):
    with opened(browser, f"{stub.url}/#/key") as page:
        page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
        page.get_by_role("link", name="Microphone").click()

        assert page.get_by_role("alert").inner_text() == "The microphone needs HTTPS or localhost."


def test_an_upload_shows_its_text_and_gives_it_in_four_forms(browser, stub):
    with opened(browser, f"{stub.url}/#/upload") as page:
        page.get_by_label("Audio or video").set_input_files(
            {"name": "tide.wav", "mimeType": "audio/wav", "buffer": bytes(1000)}
        )
        page.get_by_label("Language").fill("en")
        page.get_by_role("button", name="Transcribe").click()
        page.get_by_text("Done: 1.5 s of audio.").wait_for()
        assert page.locator("#result").inner_text() == "Tide <b>is</b> turning."
        found = {}
        for form in ("TXT", "SRT", "VTT", "JSON"):
            with page.expect_download() as download:
                page.get_by_role("button", name=form).click()
            found[download.value.suggested_filename] = download.value.path().read_text()

    wanted = {"model": "whisper-1", "language": "en", "response_format": "verbose_json", "bytes": 1000}
    assert stub.uploads == [wanted]
    assert list(found) == ["tide.txt", "tide.srt", "tide.vtt", "tide.json"]
    assert found["tide.srt"] == "1\n00:00:00,000 --> 00:00:01,500\nTide <b>is</b> turning.\n"
    assert found["tide.vtt"] == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nTide &lt;b>is&lt;/b> turning.\n"


def test_a_key_is_asked_for_and_stays_in_the_tab_alone(browser, stub):
    stub.key = "secret"
    stub.figures = [figure("radio-1")]
    with opened(browser, stub.url) as page:
        page.get_by_text("A key is needed").wait_for()
        page.get_by_role("link", name="Key", exact=True).click()
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("The gateway does not know this key.").wait_for()
        page.get_by_role("textbox", name="Key").fill("secret")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("A key is kept in this tab until it is closed.").wait_for()
        page.get_by_role("link", name="Streams").click()
        page.get_by_role("link", name="radio-1").wait_for()
        heard(page, stub)
        assert page.evaluate("localStorage.length + document.cookie.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(browser, stub, scheme):
    axe = axe_core()
    stub.figures = [figure("radio-1", speaking=True), figure("desk", state="stalled", lost_s=2.3)]
    with opened(browser, stub.url, viewport=SIZES[0], color_scheme=scheme) as page:
        for place in ("", "streams/radio-1", "microphone", "upload", "key"):
            page.evaluate("place => { location.hash = `#/${place}`; }", place)
            page.locator("h1").wait_for()
            if place in ("", "streams/radio-1"):
                heard(page, stub)
                stub.say(**message("gap", 1, reason="lost_input", detail=None))
                stub.say(**message("partial", 2, text="We are coming", speaker="0"))
                page.locator(".guess", has_text="We are coming").wait_for()
            assert violations(page, axe) == {}, place
            for size in SIZES:
                page.set_viewport_size(size)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, size)
