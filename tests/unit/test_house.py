"""The size and shape of the package: small folders, modules and functions, and no import circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "transcriber"
MODULES = {
    ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

MAX_MODULES, MAX_MODULE_LINES, MAX_FUNCTION_LINES = 16, 400, 60


def test_there_are_modules_to_look_at():
    assert MODULES["transcriber"] == PACKAGE / "__init__.py"
    assert len(MODULES) > 100


def test_no_folder_has_more_modules_than_one_sees_at_a_glance():
    folders = {path.parent for path in MODULES.values()}
    sizes = {str(folder.relative_to(PACKAGE)): len(list(folder.glob("*.py"))) for folder in folders}

    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}


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


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(imported(name, path)) - {name} for name, path in MODULES.items()}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def imported(name: str, path: Path) -> Iterator[str]:
    """Modules of the package that are imported when ``name`` is, wherever that stands but in a function or for types alone."""
    for node in at_import(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}: imports are absolute"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (one if one in MODULES else str(node.module) for one in inside if node.module in MODULES)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)
