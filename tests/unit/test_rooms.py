"""The rooms of the package and the order in which they stand: no import goes up, and none goes round."""

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import transcriber

FLOORS = (
    "errors ulid tasks child_process build_info",
    "schema",
    "audio",
    "text",
    "config",
    "cli_arguments logs",
    "terminal",
    "models",
    "gpu",
    "engine",
    "engine.whisper engine.remote",
    "telemetry",
    "diarization",
    "bus",
    "live_settings",
    "pipeline",
    "live durable clips",
    "files",
    "admin endpoints health asyncapi stream_reports",
    "service gpu.command",
    "clients",
    "purge",
    "gateway",
    "testing",
    "demo plan",
    "commands",
    "plan.cli",
    "cli",
    "__main__",
    "testing.fake_daemon",
)
"""From the bottom to the top. A room imports from itself and from lower floors; rooms on one floor do not know each other."""

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
PACKAGE = Path(transcriber.__file__).parent


def modules():
    """Name below ``transcriber`` to file; of a package, that of its ``__init__``; the package itself holds the version alone."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]
    return found


MODULES = modules()


def imports(path):
    """The modules of ours that a file names, wherever in it: those that are only for types, or only for one command, too."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module
            of_it = {f"{node.module}.{alias.name}" for alias in node.names}
            parts = {name for name in of_it if name.removeprefix("transcriber.") in MODULES}
            named |= parts or {node.module}
    ours = {name.removeprefix("transcriber.") for name in named if name.startswith("transcriber.")}
    assert ours <= MODULES.keys(), f"{path}: {ours - MODULES.keys()}"
    return ours


@functools.cache
def all_imports():
    """What each module imports; read by the worker that runs these tests, not by all that collect them."""
    return {name: imports(path) for name, path in MODULES.items()}


def room(module):
    """The room that a module is in: the innermost one that has a floor."""
    parts = module.split(".")
    return next(
        name for length in range(len(parts), 0, -1) if (name := ".".join(parts[:length])) in FLOOR_OF or length == 1
    )


def test_every_room_has_its_floor_and_every_floor_its_rooms():
    assert {room(module) for module in MODULES} == FLOOR_OF.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_goes_up_or_to_a_neighbour(module):
    own = room(module)
    wrong = [other for other in all_imports()[module] if room(other) != own and FLOOR_OF[room(other)] >= FLOOR_OF[own]]

    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        order = list(TopologicalSorter(all_imports()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")

    assert len(order) == len(MODULES)


def test_no_room_has_more_than_16_modules():
    folders = {path.parent for path in MODULES.values()}
    crowded = {
        str(folder.relative_to(PACKAGE)): count
        for folder in folders
        if (count := len([path for path in folder.glob("*.py") if path.name != "__init__.py"])) > 16
    }

    assert crowded == {}
