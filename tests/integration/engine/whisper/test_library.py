import ctypes
from ctypes import c_bool, c_char_p, c_float, c_int, c_void_p

import _pywhispercpp as binding
import pytest

from transcriber.engine.whisper import library as module
from transcriber.engine.whisper.library import (
    GREEDY,
    ContextParameters,
    FullParameters,
    check_layout,
    check_version,
    library,
)
from transcriber.engine.whisper.raw_model import RawModel
from transcriber.errors import ModelError
from transcriber.models.catalog import DEMO_MODEL

UNWRITABLE = {"strategy", "prompt_tokens", "grammar_rules", "n_grammar_rules", "i_start_rule", "grammar_penalty"}
"""Parameters that the extension does not let us write; those beside them say where they are. Callbacks are others."""

PARTS = {"greedy": ["best_of"], "beam_search": ["beam_size", "patience"]}
NUMBERS = {c_int: 7, c_float: 0.625}


def bound_parameters():
    return binding.whisper_full_default_params(binding.whisper_sampling_strategy(GREEDY))


def read_where_it_is(structure, bound):
    """Our declaration over the memory of the extension's structure, whose address pybind11 puts behind Python's own header."""
    return structure.from_address(c_void_p.from_address(id(bound) + object.__basicsize__).value)


def write(bound, name, kind, old):
    """Write another value than ``old`` by the extension's own property; returns what must be read."""
    if name in PARTS:
        setattr(bound, name, {part: 3 + number for number, part in enumerate(PARTS[name])})
        return [3, 4][: len(PARTS[name])]
    if name == "vad_params":
        for part, number in (("min_silence_duration_ms", 11), ("samples_overlap", 0.25)):
            setattr(bound.vad_params, part, number)
        return [0.5, 250, 11, old.max_speech_duration_s, 30, 0.25]
    new = "de" if kind is c_char_p else not old if kind is c_bool else NUMBERS[kind]
    setattr(bound, name, new)
    return b"de" if kind is c_char_p else new


def read(ours, name):
    value = getattr(ours, name)
    return [getattr(value, part) for part, *_ in value._fields_] if isinstance(value, ctypes.Structure) else value


@pytest.mark.parametrize(
    ("structure", "bound"),
    [(FullParameters, bound_parameters), (ContextParameters, binding.whisper_context_default_params)],
)
def test_every_parameter_is_where_the_compiler_has_put_it(structure, bound):
    """Written by the extension, which was compiled with whisper.cpp's header, and read through our declaration."""
    theirs = bound()
    ours = read_where_it_is(structure, theirs)
    written = [
        (name, kind)
        for name, kind, *_ in structure._fields_
        if name not in UNWRITABLE and "callback" not in name and not name.startswith("dtw_")
    ]

    for name, kind in written:
        new = write(theirs, name, kind, getattr(ours, name))
        assert read(ours, name) == new, name

    assert len(written) == {FullParameters: 41, ContextParameters: 3}[structure]


def test_another_version_is_one_line():
    with pytest.raises(
        ModelError, match=r"^whisper\.cpp 1\.8\.6 is installed, but 1\.8\.5 is needed, which pywhisper.*$"
    ):
        check_version("1.8.6")


def test_a_raw_model_is_of_the_checked_library_too(monkeypatch):
    monkeypatch.setattr(module, "VERSION", "1.8.4")
    library.cache_clear()

    with pytest.raises(ModelError, match=r"is installed, but 1\.8\.4 is needed"):
        RawModel(DEMO_MODEL)


def test_a_library_that_was_compiled_otherwise_is_one_line():
    class Shifted(ctypes.Structure):
        _fields_ = (("strategy", c_int), ("inserted", c_int), *FullParameters._fields_[1:])

    default = library().quick.whisper_full_default_params(GREEDY)
    shifted = Shifted.from_buffer_copy(bytes(default) + bytes(8))

    with pytest.raises(
        ModelError, match=r"^whisper\.cpp was compiled otherwise than 1\.8\.5 is: Shifted\.n_threads is 16384"
    ):
        check_layout(shifted, bound_parameters())


def test_a_library_that_lacks_a_function_is_one_line(monkeypatch):
    monkeypatch.setitem(module._QUICK, "whisper_nonsense", (None,))

    with pytest.raises(ModelError, match=r"whisper\.cpp 1\.8\.5 is needed: .*whisper_nonsense"):
        library.__wrapped__()
