"""The ``Dockerfile``, as it is written: what its stages begin with and take. That it builds is tried by hand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.DOTALL | re.MULTILINE))
READY = "libggml-cuda.so*"
"""What lies in the build's folder only where it was put there."""


def test_all_begins_with_one_base_image():
    begun = re.findall(r"^FROM (\S+) AS", TEXT, re.MULTILINE)

    assert set(begun) <= {"${BASE_IMAGE}", *STAGES}


def test_the_image_for_gpus_is_the_other_one_with_something_on_top():
    assert "\nFROM cpu AS cuda\n" in TEXT
    assert set(re.findall(r"^[A-Z]+", STAGES["cuda"], re.MULTILINE)) <= {"COPY", "ENV", "LABEL"}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_copies_is_there(stage):
    for words in re.findall(r"^COPY (?!--from)(.*)$", STAGES[stage], re.MULTILINE):
        for source in words.split()[:-1]:
            assert source == READY or (ROOT / source).exists()
    for other in re.findall(r"^COPY --from=(\S+)", STAGES[stage], re.MULTILINE):
        assert other in STAGES


def test_the_plug_in_is_built_again_only_when_its_build_changes():
    assert re.findall(r"^COPY (.*)$", STAGES["plug-in"], re.MULTILINE) == [
        f"transcriber/gpu/build.py transcriber/gpu/build.lock {READY} /src/"
    ]
