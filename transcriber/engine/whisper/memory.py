"""Is there memory for a model? In: its file and its beams. Out: nothing, or an error that says how much it needs."""

import math
import mmap
from pathlib import Path

from transcriber.config import Settings
from transcriber.engine.job import Device
from transcriber.errors import ModelError
from transcriber.models.ggml import ModelShape, check_model_file


def check_memory(path: Path, shape: ModelShape, beams: int, *, weights: bool = True) -> None:
    """Allocate the memory once on trial: whisper.cpp aborts the process where an allocation fails.

    Without ``weights`` that of one more state of a model that is loaded.

    Raises:
        ModelError: memory is short.
    """
    need_bytes = needed_bytes(path, shape, beams, weights=weights)
    try:
        allocate_on_trial(need_bytes)
    except OSError as error:
        raise ModelError(f"{path}: needs about {need_bytes / 1e6:.0f} MB of memory: {error.strerror}") from error


def needed_bytes(path: Path, shape: ModelShape, beams: int, *, weights: bool = True, states: int = 1) -> int:
    """Memory of so many states, on the host or on a card; and of the ``weights`` that they share. Generous."""
    file_bytes = path.stat().st_size
    # A state's caches and buffers grow with the model, as the file does.
    state_bytes = int(0.3 * file_bytes) + 250_000_000 + _beam_bytes(shape, beams)
    return (file_bytes if weights else 0) + states * state_bytes


def lack_of_room(path: Path, settings: Settings, device: Device) -> str:
    """Why there is no memory for a model and the states of all workers, beside what is loaded, in one line; empty: there is.

    Of the host: what a card has free is looked at when the model is loaded onto it. Its weights pass through the host once.

    Raises:
        ModelError: the file is no model.
    """
    shape, beams, workers = check_model_file(path), settings.whisper_beam_size, settings.whisper_workers
    copies, states = (workers, 1) if settings.whisper_processes else (1, workers)
    if device.kind != "cpu":  # one process after the other loads onto a card
        copies, states = 1, 0
    need_bytes = copies * needed_bytes(path, shape, beams, states=states)
    room_bytes = available_bytes()
    if need_bytes <= room_bytes:
        return ""
    return f"{path.name} needs about {need_bytes / 1e6:.0f} MB of memory, and {room_bytes / 1e6:.0f} MB are free"


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process may take without swapping: of the machine, and of each control group (v2) that it is in."""
    room_bytes = 1024 * int(_fields(proc / "meminfo")["MemAvailable:"])
    try:
        own = (proc / "self/cgroup").read_text().strip().rpartition("::")[2].strip("/")
    except OSError:
        return room_bytes
    folder = groups / own
    for group in (folder, *folder.parents):
        try:
            limit = (group / "memory.max").read_text().strip()
            used_bytes = int((group / "memory.current").read_text())
            kinds = _fields(group / "memory.stat")  # a file that was just read twice is active
            cached_bytes = int(kinds["inactive_file"]) + int(kinds["active_file"])
        except (OSError, ValueError):  # the root, or no control group
            continue
        if limit != "max":
            room_bytes = min(room_bytes, int(limit) - used_bytes + cached_bytes)
    return room_bytes


def _fields(path: Path) -> dict[str, str]:
    """The lines ``name value`` of a file of the kernel's."""
    return {name: value for name, value, *_ in (line.split() for line in path.read_text().splitlines())}


def allocate_on_trial(need_bytes: int) -> None:
    """Allocate and free so much; takes microseconds, as nothing is written to it.

    Raises:
        OSError: memory is short.
    """
    mmap.mmap(-1, need_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def call_bytes(shape: ModelShape, beams: int) -> int:
    """Memory that one call may allocate beside what its state has; generous."""
    return 32_000_000 + _beam_bytes(shape, beams)


def _beam_bytes(shape: ModelShape, beams: int) -> int:
    """Memory of beams above greedy decoding: keys and values of 16 bits for each and two more, and three tables of the vocabulary for each."""
    if beams == 1:
        return 0
    cache = 2 * 2 * 256 * math.ceil(shape.n_text_ctx / 256) * shape.n_audio_state * shape.n_text_layer
    return (beams + 1) * cache + beams * 20 * shape.n_vocab
