"""``locks/``, and the lock of the plug-in's build, have all that ``pyproject.toml`` asks for, in versions that it admits, each with its hashes."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PATHS = [*sorted((ROOT / "locks").glob("*.lock")), ROOT / "transcriber/gpu/build.lock"]
LOCKS = {str(path.relative_to(ROOT).with_suffix("")).removeprefix("locks/"): path.read_text() for path in PATHS}


def locked(name):
    """Package to version."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", LOCKS[name], re.MULTILINE))


def group(name):
    for entry in PYPROJECT["dependency-groups"][name]:
        yield from group(entry["include-group"]) if isinstance(entry, dict) else [entry]


def extras(*names):
    project = PYPROJECT["project"]
    return chain(project["dependencies"], *(project["optional-dependencies"][name] for name in names))


ASKED = {
    "cluster": [*group("cluster")],
    "demo": [*extras("demo", "gateway"), *group("build")],
    "image": [*extras("gateway", "uvloop")],
    "image-build": [*group("image")],
    "image-cuda": [*extras("gateway", "uvloop", "cuda")],
    "lint": [*group("lint")],
    "test": [*extras("demo", "gateway", "uvloop"), *group("test")],
    "transcriber/gpu/build": [*group("cuda-build")],
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_for_is_locked_in_a_version_that_is_admitted(name):
    versions = locked(name)

    for text in ASKED[name]:
        asked = Requirement(text)
        assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), text


def test_every_lock_is_looked_at_and_written_by_the_script():
    script = (ROOT / ".ci/lock").read_text()

    assert LOCKS.keys() == ASKED.keys()
    written = re.findall(r"^lock ([\w/-]+) ", script, re.MULTILINE)
    assert {name.removeprefix("locks/") for name in written} == LOCKS.keys()


@pytest.mark.parametrize("name", LOCKS)
def test_everything_has_hashes_and_nothing_says_where_it_is_had(name):
    for entry in re.split(r"\n(?=\S)", LOCKS[name].strip()):
        first, *hashes = entry.split("\n")
        assert re.fullmatch(r"[\w.-]+==\S+( ; .+)? \\", first), first
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), first


def test_what_the_image_the_demo_and_the_tests_have_in_common_is_the_same():
    tested = locked("test")

    for name in ("demo", "image"):
        assert {package: version for package, version in locked(name).items() if tested.get(package) != version} == {}


def test_the_image_for_gpus_is_the_other_one_with_nvidias_libraries():
    common, cuda = locked("image"), locked("image-cuda")

    assert {package: version for package, version in cuda.items() if common.get(package) != version}.keys() == {
        requirement.name for requirement in map(Requirement, PYPROJECT["project"]["optional-dependencies"]["cuda"])
    }
    assert cuda.items() >= common.items()
