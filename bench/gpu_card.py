"""``bench.gpu`` on a machine that has a card and Python, no network and none of our packages, and is lent for minutes.

``pack`` here: what must be carried there beside this repository, as an archive in parts of a size that a transfer takes: the
wheels of ``locks/demo.lock`` for that Python, our own, NVIDIA's NVML binding, the GPU plug-in, and models of type q8_0 (of
``made:tiny.en-q8_0`` the weights say nothing, but cost what real ones do). What is not carried: cuBLAS and CUDA's runtime
(421 MB), which must be there as wheels or in ``/usr/local/cuda/lib64``.

``run`` there, from this repository, with the parts: unpacks, installs into a folder of its own, installs the plug-in, and measures
for at most ``--seconds``, 450 by default: eight minutes with all the rest. The results are written after each part of the
measurement; ``run`` again with the same ``--out`` goes on where the last one ended, and unpacks nothing twice. Parts may come one
by one: ``add`` keeps them until ``run``. Nothing is imported before it is unpacked but Python's own.

    python -m bench.gpu_card pack parts --plug-in libggml-cuda.so --models tiny.en-q8_0,base-q8_0
    python3 -m bench.gpu_card add parts/*                                   # there, as often as needed
    python3 -m bench.gpu_card run --out gpu.json
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = Path(tempfile.gettempdir()) / "transcriber-gpu-card"
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34, 35)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)
NVML = "nvidia-ml-py"
SOURCES = ("nkeys",)
"""There is no wheel of it; it is Python alone, and built here."""

PLUG_IN = "libggml-cuda.so"
PART_MB, SECONDS = 45, 450.0
SPARE_S = 25.0
"""What ends the measurement if it does not end itself."""


def pack(folder: Path, plug_in: Path | None, models: list[str], python: str, part_mb: int, skip: list[str]) -> None:
    """Write the archive's parts, and ``manifest.json`` with their digests, into ``folder``."""
    from bench.lib.report import header  # noqa: PLC0415 - not there
    from bench.lib.shapes import find  # noqa: PLC0415

    paths = [find(model) for model in models]
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty")
    with tempfile.TemporaryDirectory(prefix="transcriber-pack-") as name:
        work = Path(name)
        wheels = work / "wheels"
        fetch_wheels(wheels, python, skip)
        with tarfile.open(work / "all.tar", "w") as archive:
            archive.add(wheels, "wheels")
            if plug_in:
                archive.add(plug_in, PLUG_IN)
            for path in paths:
                archive.add(path.resolve(), f"models/{path.name}")
        manifest = {"commit": header("gpu_card")["commit"], "parts": split(work / "all.tar", folder, part_mb * 2**20)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for part in sorted(folder.iterdir()):
        print(f"{part}  {part.stat().st_size / 2**20:.1f} MB")


def fetch_wheels(wheels: Path, python: str, skip: list[str]) -> None:
    """Those that the daemon and the bench need there, with the hashes of the locks, and our own."""
    locked = lines_of(ROOT / "locks/demo.lock") | {NVML: lines_of(ROOT / "locks/test.lock")[NVML]}
    lists = {}
    for kind in ("wheels", "sources"):
        lists[kind] = wheels.with_name(f"{kind}.lock")
        chosen = (
            lines for name, lines in locked.items() if name not in skip and (name in SOURCES) == (kind == "sources")
        )
        lists[kind].write_text("".join(chosen))
    pip: list[str | Path] = [sys.executable, "-m", "pip"]
    download = [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", lists["wheels"]]
    there = [f"--python-version={python}", "--implementation=cp", *(f"--platform={platform}" for platform in PLATFORMS)]
    subprocess.run([*download, "-d", wheels, *there], check=True)
    built = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels]
    subprocess.run([*built, "--require-hashes", "-r", lists["sources"]], check=True)
    subprocess.run([*built, ROOT], check=True)


def lines_of(lock: Path) -> dict[str, str]:
    """What a lock says of each package, by its name."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.read_text().splitlines(keepends=True):
        if line[0].isalnum():
            name = line.partition("==")[0]
        if name:
            found[name] = found.get(name, "") + line
    return found


def split(archive: Path, folder: Path, part_bytes: int) -> dict[str, str]:
    """Cut a file into parts; returns their digests by name, in order."""
    parts: dict[str, str] = {}
    with archive.open("rb") as source:
        while data := source.read(part_bytes):
            name = f"part-{len(parts):02}"
            (folder / name).write_bytes(data)
            parts[name] = hashlib.sha256(data).hexdigest()
    return parts


def add(paths: list[Path]) -> None:
    """Keep parts, and the manifest."""
    WORK.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, WORK / path.name)
    print(f"{WORK} has {', '.join(sorted(path.name for path in WORK.iterdir()))}")


def unpack() -> dict[str, str]:
    """Join the parts, once; returns the environment for what is in them.

    Raises:
        SystemExit: a part is missing or broken.
    """
    content, site = WORK / "content", WORK / "site"
    if not site.exists():
        manifest = json.loads((WORK / "manifest.json").read_bytes())
        whole = WORK / "all.tar"
        with whole.open("wb") as out:
            for name, digest in manifest["parts"].items():
                data = (WORK / name).read_bytes() if (WORK / name).exists() else b""
                if hashlib.sha256(data).hexdigest() != digest:
                    raise SystemExit(f"{WORK / name} is {'broken' if data else 'missing'}: add it")
                out.write(data)
        with tarfile.open(whole) as archive:
            archive.extractall(content, filter="data")
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target"]
        subprocess.run([*install, WORK / "installing", *sorted((content / "wheels").iterdir())], check=True)
        (WORK / "installing").rename(site)
    paths = [str(ROOT), str(site)]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "BENCH_COMMIT": json.loads((WORK / "manifest.json").read_bytes())["commit"],
        "PATH": os.pathsep.join((str(site / "bin"), os.environ["PATH"])),
        "LD_LIBRARY_PATH": os.pathsep.join(cuda_folders()),
    }


def cuda_folders() -> list[str]:
    """Where cuBLAS and CUDA's runtime may be."""
    found = importlib.util.find_spec("nvidia.cu13") if importlib.util.find_spec("nvidia") else None
    wheels = [f"{folder}/lib" for folder in found.submodule_search_locations or ()] if found else []
    return [*wheels, "/usr/local/cuda/lib64", *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]


def measure(out: Path, device: str, seconds: float, options: list[str]) -> int:
    """Install what was carried and run ``bench.gpu``; returns its status."""
    until_s = time.monotonic() + seconds
    environment = unpack()
    plug_in = WORK / "content" / PLUG_IN
    ours = [sys.executable, "-m", "transcriber"]
    if plug_in.exists():
        subprocess.run([*ours, "gpu", "install", str(plug_in)], env=environment, check=True)
        subprocess.run([*ours, "gpu", "status"], env=environment, check=False)
    models = ",".join(str(path) for path in sorted((WORK / "content/models").iterdir(), reverse=True))
    bench = [sys.executable, "-m", "bench.gpu", "--device", device, "--models", models, "--out", str(out), *options]
    left_s = until_s - time.monotonic()
    try:
        return subprocess.run(
            [*bench, "--seconds", f"{left_s:.0f}"], env=environment, check=False, timeout=left_s + SPARE_S
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"ended after {seconds + SPARE_S:g} s; {out} has what was done", file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_card", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="here: write what must be carried")
    packing.add_argument("folder", type=Path)
    packing.add_argument(
        "--plug-in", type=Path, help="the built plug-in; without it only the processor can be measured"
    )
    packing.add_argument("--models", default="tiny.en-q8_0,base-q8_0", help="default: %(default)s")
    packing.add_argument("--python", default="3.12", metavar="X.Y", help="of that machine; default: %(default)s")
    packing.add_argument("--part-mb", type=int, default=PART_MB, metavar="N", help="default: %(default)s")
    packing.add_argument("--skip", default="", metavar="NAME,...", help="packages that are there")
    adding = commands.add_parser("add", help="there: keep parts until all have come")
    adding.add_argument("parts", type=Path, nargs="+")
    running = commands.add_parser("run", help="there: install what came, and measure; more options are bench.gpu's")
    running.add_argument("--out", type=Path, required=True, metavar="FILE")
    running.add_argument("--device", default="cuda")
    running.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="default: %(default)s")
    arguments, options = parser.parse_known_args()
    match arguments.command:
        case "pack":
            skip = arguments.skip.split(",")
            pack(
                arguments.folder,
                arguments.plug_in,
                arguments.models.split(","),
                arguments.python,
                arguments.part_mb,
                skip,
            )
        case "add":
            add(arguments.parts)
        case "run":
            return measure(arguments.out, arguments.device, arguments.seconds, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
