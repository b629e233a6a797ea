import pytest

from transcriber import config
from transcriber.config import Settings, load_settings
from transcriber.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "kind", "processes", "workers"),
    [
        ({}, "cpu", 0, 1),
        ({"whisper_workers": 2}, "cpu", 0, 2),
        ({"whisper_workers": 2}, "cuda", 2, 2),
        ({"whisper_workers": 2, "whisper_processes": "0"}, "cuda", 0, 2),
        ({"whisper_processes": "3"}, "cpu", 3, 3),
        ({"whisper_processes": "3", "whisper_workers": 3}, "cuda", 3, 3),
    ],
)
def test_workers_have_processes_as_asked_for_or_as_their_device_needs_them(
    monkeypatch, settings, kind, processes, workers
):
    monkeypatch.setattr(config, "available_cores", lambda: 12)

    found = load_settings(**settings).on_device(kind)

    assert (found.whisper_processes, found.whisper_workers) == (processes, workers)
    assert found.threads == min(8, 12 // workers)


@pytest.mark.parametrize("number", ["65", "-1", "1.5", ""])
def test_no_other_number_of_processes_is_taken(number):
    with pytest.raises(ConfigError, match=r"^WHISPER_PROCESSES='.*': must be auto, or a number from 0 to 64$"):
        load_settings(whisper_processes=number)


def test_processes_are_not_changed_by_a_device_when_they_are_numbers():
    settings = Settings(whisper_processes=2).on_device("cpu")

    assert settings.on_device("cuda") == settings


@pytest.mark.parametrize(
    ("settings", "sure_s", "unsure_s"),
    [
        ({}, 0.5, 2.5),
        ({"hold_back_secs": 0.0}, 0.0, 0.0),
        ({"left_context_secs": 0.0}, 0.0, 0.0),
        ({"left_context_secs": 1.5}, 0.5, 1.5),
        ({"hold_back_secs": 4.0, "buffer_duration_secs": 12.0}, 3.0, 3.0),
        ({"buffer_duration_secs": 2.0}, 0.5, 1.0),
    ],
)
def test_no_more_is_left_to_the_next_window_than_it_hears_again(settings, sure_s, unsure_s):
    found = Settings(**settings)

    assert (found.hold_back_s, found.most_held_back_s) == (sure_s, unsure_s)
