"""The settings as they are now, of the daemon and of each stream.

In: what a bucket or a file says, whenever that changes. Out: settings, looked up when a window begins; and a line in the log for each
change and each value that is refused.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from transcriber.audio.window_policy import Changes, WindowPolicy
from transcriber.config import Settings
from transcriber.config.live import changes_of, check_value, with_changes, with_values
from transcriber.live_settings.layers import Entry, Layers, by_key
from transcriber.schema.admin import LiveSetting

log = logging.getLogger(__name__)


class LiveSettings:
    """Event loop only, but for the figures.

    Attributes:
        base: the settings of environment and command line.
        daemon: those of the daemon as a whole.
        layers: what holds.
        changes: how many there were since the start.
        model_refused: why the model that is named could not be loaded; empty: it could, or is being loaded.
        unreadable: whether the bucket or file could not be read when that was last tried.
    """

    def __init__(self, base: Settings, instance: str, supports: Callable[[str], bool]) -> None:
        """``supports``: whether the model has a language."""
        self.base = self.daemon = base
        self.changes, self.model_refused, self.unreadable = 0, "", False
        self._names = (instance, instance.rpartition("-")[0])  # with and without the number of the process
        self._supports = supports
        self._checked: dict[tuple[str, str], tuple[Any, str]] = {}
        self._entries: list[Entry] = []
        self.layers = Layers((), self._names, self._check)

    @property
    def refused(self) -> int:
        """Keys whose latest value is refused, 1 while nothing can be read, and 1 while the model that is named cannot be loaded."""
        return len(self.layers.refused) + self.unreadable + bool(self.model_refused)

    @property
    def model_named(self) -> str:
        """The model, where it is not that of environment and command line; else empty."""
        named = self.daemon.whisper_model
        return named if named and named != self.base.whisper_model else ""

    def listed(self) -> tuple[LiveSetting, ...]:
        """All that holds or is refused, by key."""
        found, model = self.layers.listed(), self.layers.of_setting("whisper_model")
        if not model or not self.model_refused:
            return found
        which, because = (model.entry.key, model.entry.revision), {"refused": self.model_refused}
        return tuple(one.model_copy(update=because) if (one.key, one.revision) == which else one for one in found)

    def check_again(self) -> None:
        """The model is another one, which may not have each language."""
        self.take(self._entries)

    async def follow(self, entries: Iterable[Entry]) -> None:
        """As ``take``, with the event loop left to audio between two values: to check one takes some milliseconds."""
        entries = list(entries)
        for said in by_key(entries).values():
            for entry in reversed(said):
                alone = Layers([entry], self._names, self._check)
                await asyncio.sleep(0)
                if not alone.refused:
                    break
        self.take(entries)

    def take(self, entries: Iterable[Entry]) -> None:
        """Follow ``entries``: all there are, of each key the oldest first."""
        self._entries = list(entries)
        known, self._checked = self._checked, {}
        before, self.layers = self.layers, Layers(self._entries, self._names, partial(self._check, known=known))
        level, self.daemon = self.daemon.log_level, with_values(self.base, self.layers.of_daemon())
        if self.daemon.log_level != level:
            logging.getLogger().setLevel(self.daemon.log_level)
        for key in dict.fromkeys((*before.held, *self.layers.held)):
            old, new = before.held.get(key), self.layers.held.get(key)
            if (old and old.value) != (new and new.value):
                self.changes += 1
                entry = new.entry if new else None
                extra = {
                    "key": ".".join(filter(None, key)),
                    "before": old and old.value,
                    "value": new and new.value,
                    "revision": entry and entry.revision,
                    "by": (entry and entry.by) or None,
                }
                log.info("setting changed", extra=extra)
        for text, refused in self.layers.refused.items():
            if before.refused.get(text) != refused:
                extra = {"key": ascii(text)[1:-1], "revision": refused.entry.revision, "by": refused.entry.by or None}
                log.warning("setting refused: %s", refused.why, extra=extra)

    def stream(self, name: str) -> "StreamSettings":
        """Those of the stream called ``name``."""
        return StreamSettings(self.base, self, name)

    def _check(self, setting: str, text: str, known: Mapping[tuple[str, str], tuple[Any, str]] | None = None) -> Any:
        """As ``check_value``, once for each text that is still said of a setting."""
        found = (self._checked if known is None else known).get((setting, text)) or self._outcome(setting, text)
        self._checked[setting, text] = found
        value, why = found
        if why:
            raise ValueError(why)
        if setting == "whisper_language" and value != "auto" and not self._supports(value):
            raise ValueError(f"WHISPER_LANGUAGE={text!r}: the model does not know it")
        return value

    def _outcome(self, setting: str, text: str) -> tuple[Any, str]:
        """A value, or why there is none; of these alone, which never change: what the model has is asked each time."""
        try:
            return check_value(self.base, setting, text), ""
        except ValueError as error:
            return None, str(error)


class StreamSettings:
    """``WindowPolicies`` of one stream. Event loop only.

    Attributes:
        now: all its settings at this moment.
    """

    def __init__(self, base: Settings, live: LiveSettings | None = None, name: str = "") -> None:
        """Without ``live`` they stay as ``base`` has them."""
        self._base, self._live, self._name = base, live, name
        self._layers: Layers | None = None
        self._now, self._latest = base, base.window_policy
        self._known: dict[Changes, tuple[Settings, WindowPolicy]] = {(): (base, self._latest)}

    @property
    def now(self) -> Settings:
        self._follow()
        return self._now

    def latest(self) -> WindowPolicy:
        """Of a window that begins now."""
        self._follow()
        return self._latest

    def policy(self, changes: Changes) -> WindowPolicy:
        """Of a window that began with ``changes``, in this daemon or in another."""
        return self._begun_with(changes)[1]

    def of(self, changes: Changes) -> Settings:
        """All settings of such a window."""
        return self._begun_with(changes)[0]

    def _follow(self) -> None:
        if self._live is None or self._live.layers is self._layers:
            return
        self._layers = self._live.layers
        values = self._layers.of_stream(self._name)
        self._now = with_values(self._base, values)
        self._latest = self.policy(changes_of(self._base, values))

    def _begun_with(self, changes: Changes) -> tuple[Settings, WindowPolicy]:
        if changes not in self._known:
            settings = with_changes(self._base, changes)
            self._known = {(): self._known[()]} | dict(list(self._known.items())[-8:])  # those of the open windows
            self._known[changes] = settings, replace(settings.window_policy, changes=changes)
        return self._known[changes]
