"""Parts of a measurement that must not be lost: a card is lent for minutes.

In: parts by name, in order, each with how long it takes. Out: a JSON file, complete after each part. A run that finds the file
goes on where it ended.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from bench.lib.report import Results, note


class UnavailableError(Exception):
    """This machine or this version has not what a part needs; the message says what."""


class Progress:
    """Results by name of their part.

    Attributes:
        parts: those that are done.
        left_out: reason by part; they are tried again by the next run.
    """

    def __init__(self, path: Path | None, about: Results, seconds: float) -> None:
        """Take what ``path`` has already, if it is of the same device and commit; ``seconds`` from now nothing begins any more."""
        self.parts: Results = {}
        self.left_out: dict[str, str] = {}
        self._path, self._about, self._until_s = path, about, time.monotonic() + seconds
        if path and path.exists():
            before = json.loads(path.read_bytes())
            if other := [name for name in about if before["about"].get(name) != about[name]]:
                raise SystemExit(f"{path} is of another {' and '.join(other)}: name another file")
            self.parts = before["parts"]

    @property
    def left_s(self) -> float:
        return self._until_s - time.monotonic()

    def take(self, name: str, needs_s: float, measure: Callable[[], Results]) -> None:
        """Do one part, unless it is done or the time is up. What goes wrong in it is written down, and the next one has its turn."""
        if name in self.parts:
            note(f"gpu: {name} is done")
            return
        self.left_out.pop(name, None)
        began_s = time.monotonic()
        if self.left_s < needs_s:
            self.left_out[name] = "no time left"
        else:
            try:
                self.parts[name] = measure() | {"seconds": round(time.monotonic() - began_s, 1)}
            except UnavailableError as error:
                self.left_out[name] = str(error)
        note(f"gpu: {name}: {self.parts.get(name) or self.left_out[name]}")
        if self._path:
            part = self._path.with_name(f"{self._path.name}.part")
            part.write_text(json.dumps(self.results(), indent=1))
            part.rename(self._path)

    def results(self) -> Results:
        return {"about": self._about, "parts": self.parts, "left_out": self.left_out}
