"""Where a model runs: which GPU, or why none. In: ``WHISPER_DEVICE``. Out: a ``Device``, and models that are loaded on it.

A GPU's backend is a plug-in, and what it rests on may be missing, broken or hang; ggml ends the process on an error of the driver. So
a child process tries it first (``gpu/check.py``): it loads the plug-in, looks for the card and compares what it computes with the CPU.
Only if all of that went well does this process load the plug-in. Without a plug-in nothing of this happens. Whatever fails: the CPU,
and one line that says why; a daemon that transcribes slowly is better than one that does not.
"""

import functools
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from transcriber.child_process import ChildError, ask
from transcriber.config import Settings
from transcriber.engine.job import CPU, Device
from transcriber.engine.whisper.gpu.check import __name__ as gpu_check
from transcriber.engine.whisper.gpu.devices import Gpu, find_gpu, gpus, kernels_folder, load_backend
from transcriber.engine.whisper.gpu.self_test import MAX_DIFFERENCE
from transcriber.engine.whisper.kernels import load_kernels
from transcriber.engine.whisper.memory import needed_bytes
from transcriber.engine.whisper.native_log import capture_native_log, native_log
from transcriber.errors import ModelError, PlugInError
from transcriber.gpu.plug_in import check_plug_in, find_plug_in
from transcriber.models.ggml import ModelShape

log = logging.getLogger(__name__)

CHECK_S = 60.0
"""Seconds that the child may take. A machine with eight GPUs, whose driver is not kept loaded, takes some ten before the first answer."""

DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
"""One of them is there where an NVIDIA driver is, on Linux and under Windows."""

NO_PLUG_IN = "no GPU plug-in is installed"

Loaded = TypeVar("Loaded")
_lock = threading.RLock()
_chosen: dict[tuple[str, str], Device] = {}


def chosen_device(settings: Settings) -> Device:
    """The device that ``WHISPER_DEVICE`` means here; found once a process and setting, and logged if it is not what was wanted.

    Blocks while a child process checks the GPU, if there is a plug-in: 0.2 s without a driver, some seconds with a GPU. This process does
    not load the plug-in here, and so can leave the GPU to children (see ``adopt``). Any thread.
    """
    key = settings.whisper_device, settings.whisper_kernels
    with _lock:
        if key not in _chosen:
            _chosen[key] = _choose(*key)
        return _chosen[key]


def adopt(settings: Settings, device: Device) -> None:
    """Take ``device`` as chosen, which another process found for the same settings."""
    with _lock:
        _chosen[settings.whisper_device, settings.whisper_kernels] = device


def load_on_device(
    path: Path, shape: ModelShape, settings: Settings, load: Callable[[int | None], Loaded]
) -> tuple[Loaded, Device]:
    """Load a model on the device that is chosen, or on the CPU if it does not fit there; returns it, and where it really is.

    It fits where its weights and the states of all workers do: another worker's state, which is made later, would have no choice.

    Args:
        path: of the model.
        shape: of the model.
        settings: as the daemon has them.
        load: loads it on this GPU, as whisper.cpp counts them, or on the CPU.

    Raises:
        ModelError: it cannot be loaded on the CPU either.
    """
    device = chosen_device(settings)
    if device.kind == "cpu":
        return load(None), device
    gpu = _attach(device.index, settings.whisper_kernels)
    if not gpu:
        return load(None), _on_cpu(settings, f"{device.name} was there, and is not any more")
    workers = settings.whisper_workers
    need_bytes = needed_bytes(path, shape, settings.whisper_beam_size, states=workers)
    if not gpu.has_room(need_bytes):  # whisper.cpp would end the process where an allocation fails
        free_mb = f"{gpu.free_bytes / 1e6:.0f} MB are free"
        whose = f", with {workers} workers," if workers > 1 else ""
        need_mb = f"{path}{whose} needs about {need_bytes / 1e6:.0f} MB"
        return load(None), _on_cpu(settings, f"{need_mb} on {device.name}, and {free_mb}")
    try:
        loaded = load(gpu.position)
    except ModelError as error:
        return load(None), _on_cpu(settings, str(error))
    # whisper.cpp takes the CPU without an error where a device fails. Its weights lie where it computes.
    if not any(f" {gpu.buffer_name} total size" in text for _, text in native_log.lines):
        return loaded, _on_cpu(settings, f"whisper.cpp did not put {path} on {device.name}")
    return loaded, device


def _choose(setting: str, kernels: str) -> Device:
    if setting == "cpu":
        return CPU
    plug_in, asked = find_plug_in(), setting != "auto"
    # A build with a GPU's backend linked in has it without a plug-in.
    if not plug_in and not gpus():
        log.log(logging.WARNING if asked else logging.DEBUG, "%s", _line(setting, NO_PLUG_IN))
        return Device(reason=NO_PLUG_IN) if asked else CPU
    index = int(setting.partition(":")[2] or 0)
    found: dict[str, Any] = {}
    try:
        if plug_in:
            check_plug_in(plug_in)
        found = _run_check(plug_in, kernels, index)
        reason = _objection(found, index)
    except PlugInError as error:
        reason = str(error)
    if not reason:
        return Device(f"cuda:{index}", found["gpus"][f"CUDA{index}"])
    # The plug-in may be installed everywhere: a machine without a GPU is nothing to warn of.
    expected = not asked and found.get("loaded") and not found["gpus"] and not any(map(os.path.exists, DRIVERS))
    log.log(logging.INFO if expected else logging.WARNING, "%s", _line(setting, reason))
    return CPU if expected else Device(reason=reason)


def _run_check(plug_in: Path | None, kernels: str, index: int) -> dict[str, Any]:
    """What ``gpu/check.py`` says; or ``died``, why it says nothing."""
    request = json.dumps({"plug_in": os.fspath(plug_in) if plug_in else None, "kernels": kernels, "index": index})
    # A backtrace takes a debugger, and seconds.
    surroundings = os.environ | {"GGML_NO_BACKTRACE": "1"}
    try:
        return ask([sys.executable, "-P", "-m", gpu_check, request], CHECK_S, surroundings)
    except ChildError as error:
        return {"died": ": ".join(filter(None, [f"its check {error.how}", _clean(error.line)]))}


def _objection(found: dict[str, Any], index: int) -> str:
    """Why the GPU is not used; empty if it is."""
    if died := found.get("died"):
        return str(died)
    name, there = f"CUDA{index}", found["gpus"]
    if not there:
        return next((_clean(line) for line in found["log"]), "the plug-in found no GPU")
    if name not in there:
        return f"there is no cuda:{index}, but {', '.join(sorted(there)).replace('CUDA', 'cuda:')}"
    if error := found.get("error"):
        return f"the self-test does not run on {there[name]}: {_clean(error)}"
    for kind, difference, same in found["differences"]:
        if same:
            return f"{there[name]} computes nothing of a {kind} model itself: the self-test's numbers are the CPU's"
        if not difference <= MAX_DIFFERENCE:
            return (
                f"{there[name]} computes wrongly: the self-test's numbers of a {kind} model differ by {difference:.0%}"
            )
    return ""


def _attach(index: int, kernels: str) -> Gpu | None:
    """Load the plug-in into this process, once; the card."""
    capture_native_log()
    with _lock:
        _load_once(find_plug_in(), kernels)
    return find_gpu(index)


@functools.cache
def _load_once(plug_in: Path | None, kernels: str) -> None:
    load_cpu_kernels(kernels)
    if plug_in:
        load_backend(plug_in)


def load_cpu_kernels(chosen: str) -> None:
    """Load the kernels of whisper.cpp beside the extension module, once a process. Any thread.

    Raises:
        ConfigError: there is no such set.
        ModelError: no set runs on this processor.
    """
    with _lock:  # several workers load at the same time
        _load_kernels_once(chosen)


@functools.cache
def _load_kernels_once(chosen: str) -> None:
    load_kernels(kernels_folder(), chosen)


def _on_cpu(settings: Settings, reason: str) -> Device:
    reason = _clean(reason)
    _warn_once(_line(settings.whisper_device, reason))
    return replace(CPU, reason=reason)


@functools.cache
def _warn_once(line: str) -> None:
    """Every worker loads."""
    log.warning("%s", line)


def _line(setting: str, reason: str) -> str:
    return f"WHISPER_DEVICE={setting}: whisper runs on the CPU: {reason}"


def _clean(line: str) -> str:
    """A line of ggml's without the name of the function that logs it."""
    return re.sub(r"^\w+: ", "", " ".join(line.split()))
