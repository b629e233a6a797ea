"""whisper.cpp itself: its functions, and the structures that they take and return.

In: the extension module of pywhispercpp, which brings the library. Out: its functions by their own names, declared for ctypes.
The extension binds neither states nor a context without one, so it is imported for its library alone.

A structure that is declared otherwise than the library was compiled would be misread without a word. So the version must be
the one that was declared here, and the defaults that the library returns, read through the declaration, those that the
extension reads.

A C++ exception would end the process. So model files are checked before they are loaded, and memory is allocated on trial before
a load, a state and a window (``memory.py``), which ggml needs too: it ends the process where an allocation fails. Callbacks
must not raise.
"""

import ctypes
import functools
from collections.abc import Iterable
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple

import _pywhispercpp as binding

from transcriber.errors import ModelError

VERSION = "1.8.5"
"""Of the whisper.cpp that is declared here."""

GREEDY, BEAM_SEARCH = 0, 1
"""``whisper_sampling_strategy``."""

AbortCallback = ctypes.CFUNCTYPE(c_bool, c_void_p)
"""Called on the thread that calls ``whisper_full_with_state``."""

LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class _Greedy(ctypes.Structure):
    _fields_ = (("best_of", c_int),)


class _BeamSearch(ctypes.Structure):
    _fields_ = (("beam_size", c_int), ("patience", c_float))


class _VadParameters(ctypes.Structure):
    _fields_ = (
        ("threshold", c_float),
        ("min_speech_duration_ms", c_int),
        ("min_silence_duration_ms", c_int),
        ("max_speech_duration_s", c_float),
        ("speech_pad_ms", c_int),
        ("samples_overlap", c_float),
    )


class FullParameters(ctypes.Structure):
    """``whisper_full_params``. It keeps what is assigned to it: byte strings and callbacks live as long as it does."""

    _fields_ = (
        ("strategy", c_int),
        ("n_threads", c_int),
        ("n_max_text_ctx", c_int),
        ("offset_ms", c_int),
        ("duration_ms", c_int),
        ("translate", c_bool),
        ("no_context", c_bool),
        ("no_timestamps", c_bool),
        ("single_segment", c_bool),
        ("print_special", c_bool),
        ("print_progress", c_bool),
        ("print_realtime", c_bool),
        ("print_timestamps", c_bool),
        ("token_timestamps", c_bool),
        ("thold_pt", c_float),
        ("thold_ptsum", c_float),
        ("max_len", c_int),
        ("split_on_word", c_bool),
        ("max_tokens", c_int),
        ("debug_mode", c_bool),
        ("audio_ctx", c_int),
        ("tdrz_enable", c_bool),
        ("suppress_regex", c_char_p),
        ("initial_prompt", c_char_p),
        ("carry_initial_prompt", c_bool),
        ("prompt_tokens", c_void_p),
        ("prompt_n_tokens", c_int),
        ("language", c_char_p),
        ("detect_language", c_bool),
        ("suppress_blank", c_bool),
        ("suppress_nst", c_bool),
        ("temperature", c_float),
        ("max_initial_ts", c_float),
        ("length_penalty", c_float),
        ("temperature_inc", c_float),
        ("entropy_thold", c_float),
        ("logprob_thold", c_float),
        ("no_speech_thold", c_float),
        ("greedy", _Greedy),
        ("beam_search", _BeamSearch),
        ("new_segment_callback", c_void_p),
        ("new_segment_callback_user_data", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("encoder_begin_callback", c_void_p),
        ("encoder_begin_callback_user_data", c_void_p),
        ("abort_callback", AbortCallback),
        ("abort_callback_user_data", c_void_p),
        ("logits_filter_callback", c_void_p),
        ("logits_filter_callback_user_data", c_void_p),
        ("grammar_rules", c_void_p),
        ("n_grammar_rules", c_size_t),
        ("i_start_rule", c_size_t),
        ("grammar_penalty", c_float),
        ("vad", c_bool),
        ("vad_model_path", c_char_p),
        ("vad_params", _VadParameters),
    )


class ContextParameters(ctypes.Structure):
    """``whisper_context_params``."""

    _fields_ = (
        ("use_gpu", c_bool),
        ("flash_attn", c_bool),
        ("gpu_device", c_int),
        ("dtw_token_timestamps", c_bool),
        ("dtw_aheads_preset", c_int),
        ("dtw_n_top", c_int),
        ("dtw_n_heads", c_size_t),
        ("dtw_heads", c_void_p),
        ("dtw_mem_size", c_size_t),
    )


class TokenData(ctypes.Structure):
    """``whisper_token_data``."""

    _fields_ = (
        ("id", c_int),
        ("tid", c_int),
        ("p", c_float),
        ("plog", c_float),
        ("pt", c_float),
        ("ptsum", c_float),
        ("t0", c_int64),
        ("t1", c_int64),
        ("t_dtw", c_int64),
        ("vlen", c_float),
    )


_CONTEXT = _STATE = c_void_p

_COMPUTING: dict[str, tuple[Any, ...]] = {
    "whisper_init_from_file_with_params_no_state": (_CONTEXT, c_char_p, ContextParameters),
    "whisper_init_from_file_with_params": (_CONTEXT, c_char_p, ContextParameters),
    "whisper_init_state": (_STATE, _CONTEXT),
    "whisper_free": (None, _CONTEXT),
    "whisper_free_state": (None, _STATE),
    "whisper_full_with_state": (c_int, _CONTEXT, _STATE, FullParameters, c_void_p, c_int),
    "whisper_encode": (c_int, _CONTEXT, c_int, c_int),
    "whisper_decode": (c_int, _CONTEXT, c_void_p, c_int, c_int, c_int),
    "whisper_lang_auto_detect_with_state": (c_int, _CONTEXT, _STATE, c_int, c_int, c_void_p),
}
"""Functions that take milliseconds or more: what they return, and what they are given."""

_QUICK: dict[str, tuple[Any, ...]] = {
    "whisper_version": (c_char_p,),
    "whisper_print_system_info": (c_char_p,),
    "whisper_log_set": (None, LogCallback, c_void_p),
    "whisper_context_default_params": (ContextParameters,),
    "whisper_full_default_params": (FullParameters, c_int),
    "whisper_n_vocab": (c_int, _CONTEXT),
    "whisper_get_logits": (ctypes.POINTER(c_float), _CONTEXT),
    "whisper_set_mel": (c_int, _CONTEXT, c_void_p, c_int, c_int),
    "whisper_set_mel_with_state": (c_int, _CONTEXT, _STATE, c_void_p, c_int, c_int),
    "whisper_tokenize": (c_int, _CONTEXT, c_char_p, c_void_p, c_int),
    "whisper_lang_max_id": (c_int,),
    "whisper_lang_id": (c_int, c_char_p),
    "whisper_lang_str": (c_char_p, c_int),
    "whisper_token_eot": (c_int, _CONTEXT),
    "whisper_token_beg": (c_int, _CONTEXT),
    "whisper_token_to_str": (c_char_p, _CONTEXT, c_int),
    "whisper_full_lang_id_from_state": (c_int, _STATE),
    "whisper_full_n_segments_from_state": (c_int, _STATE),
    "whisper_full_n_tokens_from_state": (c_int, _STATE, c_int),
    "whisper_full_get_token_data_from_state": (TokenData, _STATE, c_int, c_int),
}
"""Functions that only look something up, or copy it. They keep the GIL: another thread would keep it for up to 5 ms."""


class Library(NamedTuple):
    """whisper.cpp's functions by their own names. Any thread; a state is one thread's at a time.

    Attributes:
        computing: those that release the GIL.
        quick: those that keep it.
    """

    computing: ctypes.CDLL
    quick: ctypes.PyDLL


@functools.cache
def library() -> Library:
    """The library that the extension module uses, whatever its file is called.

    Raises:
        ModelError: it is another version than the one declared here, or was compiled otherwise.
    """
    try:
        found = Library(ctypes.CDLL(binding.__file__), ctypes.PyDLL(binding.__file__))
        for handle, functions in ((found.computing, _COMPUTING), (found.quick, _QUICK)):
            for name, (returned, *given) in functions.items():
                function = getattr(handle, name)
                function.restype, function.argtypes = returned, given
    except (OSError, AttributeError) as error:
        raise ModelError(f"whisper.cpp {VERSION} is needed: {error}") from error
    check_version(found.quick.whisper_version().decode(errors="replace"))
    for strategy in (GREEDY, BEAM_SEARCH):
        theirs = binding.whisper_full_default_params(binding.whisper_sampling_strategy(strategy))
        check_layout(found.quick.whisper_full_default_params(strategy), theirs)
    check_layout(found.quick.whisper_context_default_params(), binding.whisper_context_default_params())
    return found


def check_version(version: str) -> None:
    """Accept the version that is declared here alone.

    Raises:
        ModelError: it is another one.
    """
    if version != VERSION:
        raise ModelError(f"whisper.cpp {version} is installed, but {VERSION} is needed, which pywhispercpp 1.5.1 has")


def check_layout(ours: ctypes.Structure, theirs: object) -> None:
    """Compare numbers of a structure, read through our declaration, with ``theirs``, read by the extension.

    Raises:
        ModelError: they differ.
    """
    for name, number in _numbers(ours):
        expected: Any = theirs
        for part in name.split("."):
            expected = expected.get(part, number) if isinstance(expected, dict) else getattr(expected, part, number)
        if number != expected:
            raise ModelError(
                f"whisper.cpp was compiled otherwise than {VERSION} is: {type(ours).__name__}.{name} is {number},"
                f" not {expected}"
            )


def _numbers(structure: ctypes.Structure, prefix: str = "") -> Iterable[tuple[str, float]]:
    """Names and values of the numbers in a structure, of those within it too."""
    for name, *_ in structure._fields_:
        value = getattr(structure, name)
        if isinstance(value, ctypes.Structure):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float):
            yield f"{prefix}{name}", value
