"""Captions as lines. In: messages, a stream to write to. Out: a line a message and speaker; on a terminal also partials, in place below them."""

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from transcriber.schema.messages import AnyMessage, End, Final, Gap, Partial, Silence, Status
from transcriber.text.captions import Line, partial_line, text_lines
from transcriber.text.lines import columns, wrapped
from transcriber.text.phrases import channel_of

_MOST_INDENT = 0.5
"""Of the terminal's width; where the head of a line takes more, the rest of the line is indented by ``_LEAST_INDENT``."""
_LEAST_INDENT = 2
_FEWEST_COLUMNS = 10


class CaptionLines:
    """Captions on ``out`` while the ``with`` block lasts, and after it.

    On a terminal lines wrap at words, and the newest partial of each channel stays below them until its window's text replaces
    it; elsewhere lines are what ``text_lines`` makes of a message. One thread.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._on_terminal = out.isatty()
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._partials: dict[tuple[str, str | None], Partial] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, message: AnyMessage) -> None:
        """Write what there is to show of one message."""
        lines = text_lines(message)
        if not self._on_terminal:
            self._out.writelines(line.text + "\n" for line in lines)
            self._out.flush()
            return
        if self._replace(message) and self._live:
            if self._partials:
                self._live.update(self._below(), refresh=True)
            else:
                self._live.stop()
                self._live = None
        for line in lines:
            self._console.print(self._on_screen(line), soft_wrap=True)
        if isinstance(message, Partial) and self._live is None:
            # No auto-refresh: that would be a thread. Not sooner: an empty one takes a line.
            self._live = Live(
                self._below(), console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start(refresh=True)

    def _replace(self, message: AnyMessage) -> bool:
        """Keep a partial, or forget those that ``message`` replaces; whether the partials have changed."""
        match message:
            case Partial():
                self._partials[message.stream, channel_of(message.speaker)] = message
                return True
            case Final() | Silence() | Gap():
                key = message.stream, channel_of(message.speaker)
                shown = self._partials.get(key)
                # A window's silence may come before the text of an earlier one: only what it covers is replaced.
                over = shown is not None and (
                    shown.session != message.session or message.start_frame + message.frames > shown.start_frame
                )
                replaced = [key] if over else []
            case Status() | End():
                replaced = [key for key in self._partials if key[0] == message.stream]
            case _:
                return False
        for key in replaced:
            del self._partials[key]
        return bool(replaced)

    def _below(self) -> Group:
        lines = [partial_line(partial) for partial in self._partials.values() if partial.text]
        return Group(*(self._on_screen(line) for line in lines))

    def _on_screen(self, line: Line) -> Text:
        """The line in rows of the terminal's width, the further ones indented by the head."""
        return Text("\n".join(rows(line, self._console.width)), style="dim" if line.dim else "")


def rows(line: Line, width: int) -> list[str]:
    """A line as rows of at most ``width`` columns, cut at words; all but the first are indented as the text of the first is.

    >>> rows(Line("[00:00] radio: wind northwest six", head=15), 32)
    ['[00:00] radio: wind northwest', '               six']
    """
    head, text = line.text[: line.head], line.text[line.head :]
    indent = columns(head)
    if indent > _MOST_INDENT * width:
        head, text, indent = "", line.text, _LEAST_INDENT
    first, *others = wrapped(text, max(_FEWEST_COLUMNS, width - indent)) or [""]
    return [head + first, *(" " * indent + row for row in others)]
