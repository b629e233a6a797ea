"""The page in a real browser, with a real gateway and broker: what is shown of streams, and who can use it.

What no daemon can be made to say at a given moment, such as a stalled stream or a certain guess, is published by the test.
"""

import tomllib
from types import SimpleNamespace

import httpx
import pytest

from tests.support.browser import chromium, opened, program, violations, wait_for
from tests.support.gateway import GatewayProcess
from tests.support.loop_thread import LoopThread
from tests.support.scripted_streams import ScriptedStreams, figure
from transcriber.gateway.keys import new_key
from transcriber.testing.broker import EmbeddedBroker

SIZES = ({"width": 1280, "height": 800}, {"width": 390, "height": 800})
KEY, ENTRY = new_key("studio")


@pytest.fixture(scope="module")
def room():
    program()  # before anything is started in vain
    with EmbeddedBroker() as broker, LoopThread() as loop, GatewayProcess(broker.url) as gateway:
        streams = loop.enter(ScriptedStreams(broker.url))
        yield SimpleNamespace(broker=broker, loop=loop, gateway=gateway, url=gateway.url, streams=streams)


@pytest.fixture(scope="module")
def browser(room):
    with chromium() as found:
        yield found


@pytest.fixture
def say(room):
    """Publishes a message of a stream."""
    return lambda *about, **fields: room.loop.run(room.streams.say(*about, **fields))


def heard(page, say, stream="radio-1"):
    """Wait until the page listens to a stream, whose first words come again and again until one is shown."""
    say("final", 0, stream, text="We begin.")
    line = page.locator(f".captions[aria-label$='{stream}'] .final")
    wait_for(page, lambda: line.count() or not say("final", 0, stream, text="We begin."))


def stream_page(room, browser, **options):
    return opened(browser, f"{room.url}/#/streams/radio-1", **options)


def test_streams_daemons_and_their_words_are_on_the_start_page(room, browser, say):
    room.streams.figures = [figure("radio-1", speaking=True), figure("desk", state="stalled", lost_s=2.3)]
    with opened(browser, room.url) as page:
        heard(page, say)
        say("final", 1, text="Pilot boat, over.", speaker="1")
        measured = {"queue_depth": 2, "queue_capacity": 16, "worker_busy": 0.42, "jobs_dropped": {"queue_full": 3}}
        room.loop.run(room.streams.measure(**measured))

        page.get_by_text("Pilot boat, over.").wait_for()
        page.get_by_role("row", name="harbour 2 of 16 42 % 3").wait_for()
        desk, radio = page.locator(".card").all()
        assert "Speaker 1" in radio.inner_text()
        assert "speaking" in radio.inner_text()
        assert radio.locator("meter").evaluate("meter => meter.value") == -20
        assert [text for text in ("stalled", "2.3 s lost") if text in desk.inner_text()] == ["stalled", "2.3 s lost"]


def test_a_daemon_that_is_not_heard_of_for_a_minute_has_no_row(room, browser):
    with opened(browser, f"{room.url}/#/key") as page:
        page.clock.install()
        page.get_by_role("link", name="Streams").click()
        harbour, buoy = (page.get_by_role("row", name=name) for name in ("harbour", "buoy"))

        def measured(name, row):
            wait_for(page, lambda: row.count() or room.loop.run(room.streams.measure(name, worker_busy=0.5)))

        measured("harbour", harbour)
        page.clock.fast_forward(40_000)
        measured("buoy", buoy)
        page.clock.fast_forward(30_000)
        wait_for(page, lambda: not harbour.count())
        assert buoy.count() == 1
        page.clock.fast_forward(40_000)
        wait_for(page, lambda: page.get_by_role("region", name="Daemons").is_hidden())


def test_agreed_words_are_firm_guesses_grey_and_a_final_takes_their_place(room, browser, say):
    with stream_page(room, browser) as page:
        heard(page, say)
        say("partial", 1, text="We are coming")
        say("partial", 1, text="We are calling you", rev=2)
        page.locator(".partial .guess", has_text="calling you").wait_for()
        firm, guess = (page.locator(f".partial .{name}") for name in ("firm", "guess"))
        assert firm.inner_text() == "We are"
        assert colour(firm) != colour(guess)
        assert "We are" not in page.locator("#announcer").inner_text()

        say("final", 1, text="We are calling you now.")
        page.locator(".final", has_text="We are calling you now.").wait_for()
        assert page.locator(".partial").count() == 0
        assert "We are calling you now." in page.locator("#announcer").inner_text()


def colour(locator):
    return locator.evaluate("node => getComputedStyle(node).color")


def test_a_revision_replaces_a_gap_and_finals_quietly(room, browser, say):
    with stream_page(room, browser) as page:
        heard(page, say)
        before = say("final", 1, text="Bee four.", speaker=None)
        lost = say("gap", 2, reason="queue_full", detail="sixteen wait")
        gap = page.locator(".gap")
        gap.wait_for()
        assert gap.locator(".text").inner_text() == "1.0 s not transcribed: queue_full (sixteen wait)"
        assert "queue_full" in page.locator("#announcer").inner_text()

        say("revision", 1, text="Before the tide turns.", last_segment=2, replaces=[before, lost])
        page.locator(".revision", has_text="Before the tide turns.").wait_for()
        assert gap.count() == 0
        assert page.locator(".captions li .firm").all_inner_texts() == ["We begin.", "Before the tide turns."]
        assert "tide" not in page.locator("#announcer").inner_text()


def test_speakers_have_guesses_of_their_own(room, browser, say):
    with stream_page(room, browser) as page:
        heard(page, say)
        say("partial", 1, text="Permission to enter", speaker="0")
        say("partial", 1, text="Wait", speaker="1")
        say("final", 1, text="Permission to enter the harbour.", speaker="0")
        page.locator(".final", has_text="enter the harbour").wait_for()

        assert page.locator(".captions li").all_inner_texts()[1:] == [
            "00:01\nSpeaker 0\nPermission to enter the harbour.",
            "00:01\nSpeaker 1\nWait",
        ]


def words_of(*said):
    """Words that share a second, each with its speaker."""
    return [
        {"word": word, "start": 1 + at / 9, "end": 1 + at / 9, "confidence": 0.9, "speaker": speaker}
        for at, (word, speaker) in enumerate(said)
    ]


def test_each_voice_has_a_line_of_its_own_and_a_revision_changes_labels_in_place(room, browser, say):
    with stream_page(room, browser) as page:
        heard(page, say)
        lines, announcer = page.locator(".captions li"), page.locator("#announcer")
        said = {"text": "Ready? Aye. Go.", "words": words_of(("Ready?", "A"), ("Aye.", None), ("Go.", "B"))}
        before = say("final", 1, speaker="A", **said)
        page.locator(".final", has_text="Go.").wait_for()
        assert lines.all_inner_texts()[1:] == ["00:01\nSpeaker A\nReady? Aye.", "00:01\nSpeaker B\nGo."]
        assert announcer.inner_text().endswith("Speaker A: Ready? Aye. Speaker B: Go.")
        assert colour(lines.nth(1).locator(".who")) != colour(lines.nth(2).locator(".who"))

        say("partial", 2, text="Gone")
        page.locator(".partial").wait_for()
        guess_x, label = left(page.locator(".partial .text")), page.locator(".partial .who").inner_text()
        say("final", 2, text="Gone.", speaker="B")
        page.locator(".final", has_text="Gone.").wait_for()
        assert (label, left(lines.nth(3).locator(".text"))) == ("", guess_x)
        assert page.locator(".partial").count() == 0
        assert announcer.inner_text().endswith("\nGone."), "B is named again"

        heard_so_far = announcer.inner_text()
        items = lines.element_handles()
        said["words"] = words_of(("Ready?", "A"), ("Aye.", "B"), ("Go.", "A"))
        say("revision", 1, speaker="A", last_segment=0, replaces=[before], **said)
        page.locator(".revision", has_text="Aye.").wait_for()
        assert [text.partition("\n")[2] for text in lines.all_inner_texts()[1:]] == [
            "Speaker A\nReady?", "Speaker B\nAye.", "Speaker A\nGo.", "Speaker B\nGone.",
        ]  # fmt: skip
        kept = [
            page.evaluate("([one, other]) => one === other", [a, b])
            for a, b in zip(items[:3], lines.element_handles(), strict=False)
        ]
        assert kept == [True, True, True]
        assert announcer.inner_text() == heard_so_far

        say("final", 1, speaker="A", **said)  # again, as after a reconnect
        say("final", 3, text="Over.", speaker="B")
        page.locator(".final", has_text="Over.").wait_for()
        assert lines.count() == 6


def left(locator):
    return locator.bounding_box()["x"]


@pytest.mark.parametrize("words", [[], words_of(("Quite", "A"), ("other.", "B"))])
def test_text_whose_words_are_not_known_is_one_line_of_its_speaker(room, browser, say, words):
    with stream_page(room, browser) as page:
        heard(page, say)
        say("final", 1, text="Ready? Aye.", words=words, speaker="B")
        page.locator(".final", has_text="Aye.").wait_for()

        assert page.locator(".captions li").all_inner_texts()[1:] == ["00:01\nSpeaker B\nReady? Aye."]


def test_files_to_download_name_the_speakers(room, browser):
    segments = [
        {"start": at, "end": at + 1, "text": text, "speaker": speaker}
        for at, (text, speaker) in enumerate([("Is it", "A"), ("on?", "A"), ("Aye <b>.", "B")])
    ]
    whole = {"text": "Is it on? Aye <b>.", "segments": segments, "gaps": []}
    unnamed = whole | {"segments": [one | {"speaker": None} for one in segments]}
    with opened(browser, f"{room.url}/#/key") as page:
        made = page.evaluate(
            """async (results) => {
                const { FORMS } = await import("/web/subtitles.js");
                return results.map((whole) => ["txt", "srt", "vtt"].map((form) => FORMS[form][1](whole)));
            }""",
            [whole, unnamed],
        )

    txt, srt, vtt = made[0]
    assert txt == "Speaker A: Is it on?\nSpeaker B: Aye <b>.\n"
    assert "2\n00:00:01,000 --> 00:00:02,000\nSpeaker A: on?\n" in srt
    assert "\n<v Speaker B>Aye &lt;b>.\n" in vtt
    assert made[1][0] == "Is it on? Aye <b>.\n"
    assert "Speaker" not in "".join(made[1])


def test_text_is_never_html(room, browser, say):
    with stream_page(room, browser) as page:
        heard(page, say)
        say("final", 1, text="<img src=x onerror=alert(1)><b>bold</b>")

        page.get_by_text("<img src=x onerror=alert(1)><b>bold</b>").first.wait_for()
        assert page.locator("main img, main b").count() == 0


def test_a_reader_that_scrolls_up_is_left_there_and_captions_grow_by_the_keyboard_alone(room, browser, say):
    with stream_page(room, browser, viewport=SIZES[1]) as page:
        heard(page, say)
        for second in range(1, 60):
            say("final", second, text=f"Line {second}.")
        page.locator(".final", has_text="Line 59.").wait_for()
        captions = page.locator(".captions")
        assert captions.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 60
        captions.focus()
        page.keyboard.press("Home")
        wait_for(page, lambda: captions.evaluate("node => node.scrollTop") == 0)
        say("final", 60, text="Line 60.")
        page.locator(".final", has_text="Line 60.").wait_for()
        assert captions.evaluate("node => node.scrollTop") == 0

        before = captions.evaluate("node => getComputedStyle(node).fontSize")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        assert page.evaluate("document.activeElement.textContent") == "Larger"
        page.keyboard.press("Enter")
        assert captions.evaluate("node => getComputedStyle(node).fontSize") != before


def test_a_key_is_asked_for_and_stays_in_the_tab_alone(room, browser, tmp_path, say):
    keys = tmp_path / "keys.toml"
    keys.write_text(ENTRY)
    assert tomllib.loads(ENTRY)["keys"]["studio"]["scopes"] == ["listen", "publish", "transcribe"]
    room.streams.figures = [figure("radio-1")]
    with GatewayProcess(room.broker.url, GATEWAY_KEYS_FILE=keys) as gateway, opened(browser, gateway.url) as page:
        page.get_by_text("A key is needed").wait_for()
        page.get_by_role("link", name="Key", exact=True).click()
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("The gateway does not know this key.").wait_for()
        page.get_by_role("textbox", name="Key").fill(KEY)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("A key is kept in this tab until it is closed.").wait_for()
        page.get_by_role("link", name="Streams").click()
        page.get_by_role("link", name="radio-1").wait_for()
        heard(page, say)  # over a WebSocket, which has a ticket
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        lines = [str(line) for line in gateway.lines]
        assert httpx.get(f"{gateway.url}/v1/streams").status_code == 401
    assert not any(KEY in line for line in lines)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(room, browser, say, scheme):
    room.streams.figures = [figure("radio-1", speaking=True), figure("desk", state="stalled", lost_s=2.3)]
    with opened(browser, room.url, viewport=SIZES[0], color_scheme=scheme) as page:
        for place in ("", "streams/radio-1", "microphone", "upload", "key"):
            page.evaluate("place => { location.hash = `#/${place}`; }", place)
            page.locator("h1").wait_for()
            if place in ("", "streams/radio-1"):
                heard(page, say)
                say("gap", 1, reason="lost_input", detail=None)
                say(
                    "final",
                    2,
                    text="A B C D E F G H",
                    words=words_of(*zip("ABCDEFGH", "ABCDEFGH", strict=True)),
                    speaker="A",
                )
                say("partial", 3, text="We are coming", speaker="0")
                page.locator(".guess", has_text="We are coming").wait_for()
                if place:
                    assert len({colour(who) for who in page.locator(".final .who[data-colour]").all()}) == 8
            assert violations(page) == {}, place
            for size in SIZES:
                page.set_viewport_size(size)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, size)
