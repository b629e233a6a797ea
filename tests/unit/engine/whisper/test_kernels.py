import pytest

from transcriber.config import Settings
from transcriber.engine.whisper.kernels import advice, built_features, load_kernels, processor_flags
from transcriber.engine.whisper.model import load_model
from transcriber.errors import ConfigError
from transcriber.models.catalog import DEMO_MODEL

AVX2 = frozenset({"AVX2", "FMA", "F16C"})
AVX512 = AVX2 | {"AVX512", "AVX512_VNNI"}
AMX = AVX512 | {"AMX_INT8"}
OLD, SERVER, XEON = frozenset({"avx2"}), frozenset({"avx2", "avx512f"}), frozenset({"avx2", "avx512f", "amx_int8"})
F16, Q8_0, Q5_1 = 1, 7, 9


@pytest.mark.parametrize(
    ("ftype", "built", "flags", "logged"),
    [
        (F16, AVX2, OLD, ["q8_0"]),
        (Q8_0, AVX2, OLD, []),
        (F16, AVX2, SERVER, ["AVX-512", "q8_0"]),
        (Q8_0, AVX2, SERVER, ["AVX-512"]),
        (F16, AVX512, SERVER, []),
        (Q5_1, AVX2, OLD, ["q5_1"]),
        (Q5_1, AVX512, SERVER, ["q5_1"]),
        (F16, AVX2, XEON, ["AVX-512 and AMX", "q8_0"]),
        (F16, AVX512, XEON, ["AMX"]),
        (F16, AMX, XEON, ["q8_0"]),
        (Q8_0, AMX, XEON, []),
        (F16, AVX2, frozenset(), ["q8_0"]),
        (F16, frozenset({"NEON", "DOTPROD"}), frozenset(), []),
    ],
)
def test_what_would_be_faster_is_logged_in_one_line_each(ftype, built, flags, logged):
    lines = advice(ftype, built, flags)

    assert len(lines) == len(logged)
    assert all(word in line and "\n" not in line for word, line in zip(logged, lines, strict=True))


def test_features_are_those_that_are_1():
    system_info = (
        "WHISPER : COREML = 0 | OPENVINO = 0 | CPU : SSE3 = 1 | AVX512 = 1 | AMX_INT8 = 0 | CPU : OPENMP = 1 | "
    )

    assert built_features(system_info) == {"SSE3", "AVX512", "OPENMP"}


def test_processor_has_flags():
    assert "sse2" in processor_flags() or "asimd" in processor_flags()


def test_a_build_with_its_kernels_linked_in_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "libggml-cpu.so.0").touch()
    loaded: list[object] = []
    monkeypatch.setattr("ctypes.CDLL", loaded.append)

    load_kernels(tmp_path)

    assert loaded == []


def test_a_set_that_is_not_there_is_one_line_that_names_the_others(tmp_path):
    for name in ("haswell", "zen4"):
        (tmp_path / f"libggml-cpu-{name}.so").touch()

    with pytest.raises(ConfigError, match=r"WHISPER_KERNELS='amx': must be auto or haswell or zen4"):
        load_kernels(tmp_path, "amx")


def test_setting_reaches_the_loader():
    with pytest.raises(ConfigError, match="WHISPER_KERNELS='nonsense'"):
        load_model(DEMO_MODEL, Settings(whisper_kernels="nonsense"))
