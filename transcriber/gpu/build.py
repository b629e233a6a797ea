"""Builds the GPU plug-in from package wheels alone. In: a path, GPU architectures. Out: ``libggml-cuda.so`` at that path.

The compiler of CUDA, its libraries, CMake and Ninja come from the package index with the hashes of ``build.lock``, and so does the
source: that of the pywhispercpp whose wheel will load the plug-in. Only a C++ compiler must be here. ``Dockerfile`` runs this file
by its path, so that its layer depends on nothing but this folder's two files: it imports nothing of ours. Blocks for as long as it
compiles, which is an hour of one core for each architecture.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

LOCK = Path(__file__).with_name("build.lock")
SOURCE = "pywhispercpp"
"""The package of the lock that is not installed: its source holds whisper.cpp's."""

ARCHITECTURES = "75-real;80-real;86-real;89-real;90"
"""As ``CMAKE_CUDA_ARCHITECTURES``. Device code, not PTX: with a read-only root there is no cache, and PTX would be compiled at each
start; the last entry keeps PTX for GPUs newer than the list."""

ARCHITECTURES_PATTERN = r"[0-9]+[a-z]?(-real|-virtual)?(;[0-9]+[a-z]?(-real|-virtual)?)*"

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_BACKEND_DL": "ON",  # a plug-in
    "GGML_CPU": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_CUDA": "ON",
    "GGML_CUDA_GRAPHS": "ON",
    "GGML_CUDA_NCCL": "OFF",
    "GGML_CUDA_NO_VMM": "ON",  # else it needs the driver's library, and does not load where there is no driver
    "WHISPER_BUILD_TESTS": "OFF",
    "WHISPER_BUILD_EXAMPLES": "OFF",
    "WHISPER_BUILD_SERVER": "OFF",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    # whisper.cpp's libraries lie beside it; NVIDIA's wheels in the same site-packages, in which it lies itself or in a folder of it.
    "CMAKE_INSTALL_RPATH": "$ORIGIN;$ORIGIN/nvidia/cu13/lib;$ORIGIN/../nvidia/cu13/lib",
}

LINKED = {"cudart": 13, "cublas": 13, "cublasLt": 13}
"""NVIDIA's libraries, with the number in their file names."""

MARK = "transcriber-gpu-plug-in"
"""The plug-in holds this word, a space, a JSON object that says what it was built from, and a null byte."""


class BuildError(Exception):
    """It cannot be built; the message is one line, and the output of what failed stands above it."""


def build(out: Path, architectures: str, work: Path, jobs: int) -> None:
    """Build ``out``. What ``work`` has already, of an earlier call that was interrupted, is not done again.

    Args:
        out: the file to write; replaced if it exists.
        architectures: as ``CMAKE_CUDA_ARCHITECTURES``.
        work: a folder for some 3 GB.
        jobs: compilers that run at once; some need 2 GB of memory.

    Raises:
        BuildError: the compiler is missing, a step failed, or a file cannot be written.
    """
    if not re.fullmatch(ARCHITECTURES_PATTERN, architectures):
        raise BuildError(f"--architectures={architectures!r}: must be as 80-real;90, in CMake's terms")
    if jobs < 1:
        raise BuildError(f"--jobs={jobs}: must be at least 1")
    if not out.parent.is_dir():  # said now, and not in an hour
        raise BuildError(f"{out.parent}: there is no such folder")
    if not shutil.which("g++"):
        raise BuildError("no g++: install a C++ compiler, such as Debian's g++")
    try:
        work.mkdir(parents=True, exist_ok=True)
        tools = _tools(work)
        source = _source(work, tools)
        toolkit = _toolkit(tools)
        mark = _mark(work, architectures)
        built = _compile(work, tools, source, toolkit, mark, architectures, jobs)
        part = out.with_name(f"{out.name}.part")
        shutil.copyfile(built, part)
        part.replace(out)
    except OSError as error:
        raise BuildError(f"{error.filename or out}: {error.strerror or error}") from error


def locked(name: str) -> str:
    """The version of a package in the lock."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(encoding="ascii"), re.MULTILINE)
    if not found:
        raise BuildError(f"{LOCK}: no {name}")
    return found[1]


def _tools(work: Path) -> Path:
    """A virtual environment with all of the lock but the source; returns its folder."""
    folder, done, lock = work / "tools", work / "tools.done", LOCK.read_text(encoding="ascii")
    if done.exists() and done.read_text(encoding="ascii") == lock:
        return folder
    entries = re.split(r"\n(?=\S)", lock.strip())
    source = [entry for entry in entries if entry.startswith(f"{SOURCE}==")]
    (work / "source.lock").write_text("\n".join(source) + "\n", encoding="ascii")
    (work / "tools.lock").write_text("\n".join(each for each in entries if each not in source) + "\n", encoding="ascii")
    try:
        venv.create(folder, clear=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise BuildError("no virtual environment can be made: on Debian install python3-venv") from error
    options = "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"
    _run([folder / "bin/pip", "install", *options, "-r", work / "tools.lock"])
    done.write_text(lock, encoding="ascii")
    return folder


def _source(work: Path, tools: Path) -> Path:
    """whisper.cpp's folder."""
    folder = work / f"{SOURCE}-{locked(SOURCE)}"
    if folder.exists():
        return folder / "whisper.cpp"
    options = "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", SOURCE, "--require-hashes"
    _run([tools / "bin/pip", "download", *options, "-r", work / "source.lock", "-d", work])
    archive = work / f"{SOURCE}-{locked(SOURCE)}.tar.gz"  # another version's may lie beside it
    with TemporaryDirectory(dir=work) as unpacked, tarfile.open(archive) as packed:
        # Debian 12's Python knows no filters, and Python 3.12 and 3.13 warn where none is chosen.
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        packed.extractall(unpacked)  # noqa: S202 - its hash is in the lock
        (Path(unpacked) / folder.name).rename(folder)
    return folder / "whisper.cpp"


def _toolkit(tools: Path) -> Path:
    """NVIDIA's wheels as one folder that CMake takes for an installation of CUDA."""
    (folder,) = tools.glob("lib/python3*/site-packages/nvidia/cu13")
    # Wheels hold no links: nvcc and CMake look in lib64, the linker for libX.so.
    links = {"lib64": "lib"} | {f"lib/lib{name}.so": f"lib{name}.so.{number}" for name, number in LINKED.items()}
    for name, target in links.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    return folder


def _mark(work: Path, architectures: str) -> Path:
    """An object file that says what the plug-in was built from; linked into it."""
    content = json.dumps({
        SOURCE: locked(SOURCE),
        "cuda": ".".join(locked("nvidia-cuda-nvcc").split(".")[:2]),
        "architectures": architectures,
    })  # fmt: skip
    source, built = work / "mark.c", work / "mark.o"
    text = f"{MARK} {content}".replace('"', '\\"')
    source.write_text(
        f'__attribute__((used, visibility("default"))) const char transcriber_gpu_plug_in[] = "{text}";\n', "ascii"
    )
    _run(["g++", "-x", "c", "-fPIC", "-c", source, "-o", built])
    return built


def _compile(work: Path, tools: Path, source: Path, toolkit: Path, mark: Path, architectures: str, jobs: int) -> Path:
    """The library. CMake decides what of an earlier call is still good."""
    folder = work / f"build-{locked(SOURCE)}"  # CMake refuses a folder that was another source's
    options = OPTIONS | {
        "CMAKE_MAKE_PROGRAM": os.fspath(tools / "bin/ninja"),
        "CMAKE_CUDA_ARCHITECTURES": architectures,
        "CMAKE_CUDA_COMPILER": os.fspath(toolkit / "bin/nvcc"),
        "CUDAToolkit_ROOT": os.fspath(toolkit),
        "CMAKE_MODULE_LINKER_FLAGS": f'-s "{mark}"',
    }
    cmake = tools / "bin/cmake"
    _run([cmake, "-G", "Ninja", "-S", source, "-B", folder, *(f"-D{name}={value}" for name, value in options.items())])
    _run([cmake, "--build", folder, "--target", "ggml-cuda", "--parallel", str(jobs)])
    return folder / "bin" / "libggml-cuda.so"


def _run(command: list[str | Path]) -> None:
    """Run one step; its output is the caller's. If the caller is interrupted, so are all compilers.

    Raises:
        BuildError: it failed.
    """
    words = [os.fspath(word) for word in command]
    with subprocess.Popen(words, process_group=0) as process:  # noqa: S603 - our own words
        try:
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if status:
        raise BuildError(f"{Path(words[0]).name} {words[1]} failed with status {status}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes, also as ``transcriber gpu build``."""
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write, such as libggml-cuda.so")
    parser.add_argument(
        "--architectures", default=ARCHITECTURES, metavar="LIST", help=f"of GPUs, as CMake takes them ({ARCHITECTURES})"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="kept, so that a build that was interrupted goes on (a temporary one)",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="compilers at once (as many as processors)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Build as the options say.

    Raises:
        BuildError: as ``build``.
    """
    if arguments.work:
        build(arguments.out.absolute(), arguments.architectures, arguments.work.absolute(), arguments.jobs)
        return
    with TemporaryDirectory(prefix="transcriber-gpu-") as work:
        build(arguments.out.absolute(), arguments.architectures, Path(work), arguments.jobs)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Build the GPU plug-in.")
    add_options(options)
    try:
        run(options.parse_args())
    except BuildError as error:
        sys.exit(f"build.py: {error}")
