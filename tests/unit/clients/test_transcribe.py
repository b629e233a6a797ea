"""``transcriber transcribe``: requests, jobs through the store, what goes wrong, and where the text goes."""

from pathlib import Path

import pytest

from transcriber.clients.transcribe import progress_text, suppressed_text
from transcriber.errors import ConfigError
from transcriber.schema.messages import HeldBack
from transcriber.terminal.output_files import output_paths
from transcriber.text.results import Form


def test_where_results_go(tmp_path):
    a, b = Path("x/a.wav"), Path("y/a.mp3")

    assert output_paths([a], None, "srt") == [None]
    assert output_paths([a], tmp_path / "new.srt", "srt") == [tmp_path / "new.srt"]
    assert output_paths([a], tmp_path, "verbose_json") == [tmp_path / "a.json"]
    assert output_paths([None], tmp_path, "text") == [tmp_path / "stdin.txt"]
    assert output_paths([a, None], tmp_path / "new", "text") == [tmp_path / "new/a.txt", tmp_path / "new/stdin.txt"]
    wrong: list[tuple[list[Path | None], Path | None, Form, str]] = [
        ([a, b], tmp_path, "text", "x/a.wav and y/a.mp3 would both be written to"),
        ([a, b], None, "vtt", "--format=vtt: subtitles are of one recording"),
        ([a], tmp_path / "none/a.txt", "text", "there is no directory"),
        ([a, None], tmp_path / "none/out", "text", "--output=.*: No such file or directory"),
    ]
    for files, output_path, form, message in wrong:
        with pytest.raises(ConfigError, match=message):
            output_paths(files, output_path, form)


def test_how_far_a_job_is_in_words():
    assert progress_text("queued", 0, None, None) == "queued"
    assert progress_text("running", 75, None, None) == "01:15"
    assert progress_text("running", 75, 3675, 240) == "01:15 of 1:01:15, 04:00 left"


def test_a_line_names_no_more_than_five_windows_that_were_held_back():
    held = [HeldBack(start=5 * n, end=5 * n + 5, reason="rate") for n in range(6)]

    assert suppressed_text(held[:5]).endswith("00:20-00:25 rate")
    assert suppressed_text(held).endswith("00:20-00:25 rate and more")
