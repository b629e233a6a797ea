"""What is running. In: the package as it was built or checked out. Out: its version, with the commit where that is known.

``.ci/build_hook.py`` runs this file by its path, before the package is installed: it imports nothing of ours.
"""

import subprocess
from importlib.metadata import version
from pathlib import Path

COMMIT_FILE = "COMMIT"
"""Beside this module in what was built; ``.ci/build_hook.py`` writes it."""

DESCRIBE = ("git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12")
GIT_TIMEOUT_S = 2.0


def version_line(package: Path = Path(__file__).parent) -> str:
    """``0.1.0 (879edf0ccb35)``; without the commit where neither the build nor git knows it."""
    number = version("nats-transcriber")
    commit = built_commit(package) or checked_out_commit(package.parent)
    return f"{number} ({commit})" if commit else number


def built_commit(package: Path) -> str | None:
    """The commit that the build wrote into the package."""
    try:
        return (package / COMMIT_FILE).read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def checked_out_commit(root: Path) -> str | None:
    """The commit of the checkout whose top level is ``root``, with ``-dirty`` if its files have changed; None without git."""
    if not (root / ".git").exists():
        return None  # also of an archive that was unpacked inside another repository
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            DESCRIBE, cwd=root, capture_output=True, text=True, errors="replace", timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
