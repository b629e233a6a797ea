"""The size of modules and functions; how folders depend on each other is in ``test_rooms``."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "transcriber"
MODULES = {
    ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 60


def test_there_are_modules_to_look_at():
    assert MODULES["transcriber"] == PACKAGE / "__init__.py"
    assert len(MODULES) > 100


def test_no_module_is_longer_than_a_few_screens():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}

    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_no_function_is_longer_than_one_screen():
    lengths = {
        f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: count for name, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}


def test_no_test_takes_one_flush_for_the_brokers_answer():
    """nats-py's first PING overtakes what is queued: ``tests.support.waiting.settled`` waits for the second."""
    tests = PACKAGE.parent / "tests"
    single = re.compile(r"await [\w.]*(client|publisher)\.flush\(\)")

    assert [path.name for path in tests.rglob("*.py") if single.search(path.read_text())] == ["waiting.py"]
