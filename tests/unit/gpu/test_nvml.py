"""Which card is ours, and what it says, by an NVML that is not there; and what the real one says where there is no driver."""

import sys

import pynvml
import pytest

from tests.support.fake_nvml import GIB, FakeCard, FakeNvml, refused
from transcriber.errors import CardError
from transcriber.gpu.nvml import CardFigures, open_card

FIRST, SECOND = "GPU-1b2f4c6e-0000-4000-8000-000000000001", "GPU-7d8e9fa0-0000-4000-8000-000000000002"
PART, OTHER_PART = "MIG-55555555-0000-4000-8000-000000000005", "MIG-66666666-0000-4000-8000-000000000006"


def two_alike():
    return FakeNvml([FakeCard(FIRST), FakeCard(SECOND)])


def two_unlike():
    return FakeNvml([FakeCard(FIRST, name="NVIDIA T4"), FakeCard(SECOND)])


def divided(*parts):
    return FakeNvml(
        [FakeCard(FIRST, instances=[FakeCard(part, percent=None, used=GIB, total=16 * GIB) for part in parts])]
    )


@pytest.mark.parametrize(
    ("nvml", "index", "environ", "uuid"),
    [
        (two_alike(), 0, {}, FIRST),
        (two_alike(), 1, {}, SECOND),
        (two_alike(), 0, {"CUDA_VISIBLE_DEVICES": "1"}, SECOND),
        (two_alike(), 1, {"CUDA_VISIBLE_DEVICES": "1, 0"}, FIRST),
        (two_alike(), 0, {"CUDA_VISIBLE_DEVICES": SECOND}, SECOND),
        (two_alike(), 1, {"CUDA_VISIBLE_DEVICES": "GPU-7d,GPU-1b"}, FIRST),
        (two_unlike(), 1, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, SECOND),
        (divided(PART, OTHER_PART), 0, {"CUDA_VISIBLE_DEVICES": OTHER_PART}, OTHER_PART),
        (divided(PART), 0, {}, PART),
        (divided(PART), 0, {"CUDA_VISIBLE_DEVICES": "0"}, PART),
    ],
)
def test_the_card_is_the_one_that_cuda_calls_so(nvml, index, environ, uuid):
    card = open_card(index, environ, nvml)

    assert card.uuid == uuid
    card.close()
    assert nvml.opened == 0


@pytest.mark.parametrize(
    ("nvml", "index", "environ", "reason"),
    [
        (two_alike(), 2, {}, "there is no card number 2"),
        (two_alike(), 1, {"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES='1' has no number 1"),
        (two_alike(), 0, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES='' has no number 0"),
        (two_alike(), 0, {"CUDA_VISIBLE_DEVICES": "GPU-"}, "CUDA_VISIBLE_DEVICES names 'GPU-', which 2 cards are"),
        (two_alike(), 0, {"CUDA_VISIBLE_DEVICES": PART}, "Not Found"),
        (two_unlike(), 0, {}, "the cards differ, and CUDA counts them by speed: set CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        (
            divided(PART, OTHER_PART),
            0,
            {},
            "the card is divided into 2 (MIG), and CUDA_VISIBLE_DEVICES names none of them",
        ),
    ],
)
def test_where_it_is_not_certain_which_card_is_ours_there_is_none_and_a_reason(nvml, index, environ, reason):
    with pytest.raises(CardError) as raised:
        open_card(index, environ, nvml)

    assert str(raised.value) == reason
    assert nvml.opened == 0


def test_a_card_says_its_figures_in_our_units():
    card = open_card(0, {}, FakeNvml([FakeCard(FIRST)]))

    assert (card.name, card.read()) == ("NVIDIA H200", CardFigures(0.4, 2 * GIB, 139 * GIB, 51, 250.0))


def test_an_instance_has_its_own_memory_and_the_temperature_of_its_card():
    card = open_card(0, {}, divided(PART))

    assert card.read() == CardFigures(None, GIB, 16 * GIB, 51, 250.0)


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_NO_PERMISSION])
def test_what_a_driver_does_not_say_is_left_out(code):
    nvml = FakeNvml([FakeCard(FIRST)])
    card = open_card(0, {}, nvml)

    nvml.fails = refused(code)

    assert card.read() == CardFigures(None, None, None, None, None)


def test_a_card_that_is_lost_is_an_error():
    nvml = FakeNvml([FakeCard(FIRST)])
    card = open_card(0, {}, nvml)

    nvml.fails = refused(pynvml.NVML_ERROR_GPU_IS_LOST)

    with pytest.raises(CardError, match="GPU is lost"):
        card.read()


def test_the_real_library_says_that_there_is_no_driver():
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        pass
    else:
        pynvml.nvmlShutdown()
        pytest.skip("there is a driver")

    with pytest.raises(CardError, match="NVML Shared Library Not Found"):
        open_card(0)


def test_without_the_package_the_reason_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with pytest.raises(CardError, match="nvidia-ml-py, of the extra cuda, is not installed"):
        open_card(0)
