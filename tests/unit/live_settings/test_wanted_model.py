"""The model that a live setting names: asked for, refused by its key, asked for again."""

import asyncio

import pytest

from transcriber.config import load_settings
from transcriber.live_settings import wanted_model
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings
from transcriber.live_settings.wanted_model import WantedModel
from transcriber.schema.admin import Swap

KEY = "global.whisper_model"


class Swaps:
    """As a daemon's, which end when the test says so."""

    def __init__(self):
        self.asked: list[str] = []
        self.latest: asyncio.Future[Swap] = asyncio.get_running_loop().create_future()

    def begin(self, name):
        self.asked.append(name)
        self.latest = asyncio.get_running_loop().create_future()
        return self.latest

    async def end(self, state, error=""):
        self.latest.set_result(
            Swap(number=1, model=self.asked[-1], by="", at="2026-01-01T00:00:00Z", state=state, error=error)
        )
        await asyncio.sleep(0)  # for the callback


def said(live):
    return [(one.key, one.value, one.refused) for one in live.listed()]


@pytest.mark.parametrize("state", ["refused", "failed"])
async def test_a_model_that_cannot_be_loaded_is_refused_by_its_key_and_tried_again(state, monkeypatch):
    monkeypatch.setattr(wanted_model, "AGAIN_S", 60.0)
    live, swaps = LiveSettings(load_settings(whisper_model="one"), "pod-1", lambda _: True), Swaps()
    model = WantedModel(live, swaps.begin)
    model.look()
    live.take([Entry("global.log_level", "INFO", 1), Entry(KEY, "two", 2)])
    model.look()
    assert (swaps.asked, live.refused) == (["two"], 0)

    await swaps.end(state, "the file is truncated")
    model.look()
    assert (swaps.asked, live.refused) == (["two"], 1)
    assert said(live) == [("global.log_level", "INFO", ""), (KEY, "two", "the file is truncated")]

    monkeypatch.setattr(wanted_model, "AGAIN_S", 0.0)
    live.take([Entry(KEY, "three", 3)])
    model.look()
    assert (swaps.asked, live.refused) == (["two", "three"], 0)  # another name, at once
    await swaps.end(state, "no room")
    model.look()
    assert (swaps.asked, live.refused) == (["two", "three", "three"], 1)
    await swaps.end("swapped")
    model.look()
    assert (swaps.asked[3:], live.refused, said(live)) == ([], 0, [(KEY, "three", "")])

    live.take([])
    model.look()
    assert swaps.asked[3:] == [""]
