"""Writes the commit that a wheel or source archive is built from into it, as ``transcriber/COMMIT``.

Known from ``SOURCE_COMMIT``, where the build has no repository (an image's), else from git; where it is not known there is no file.
A wheel that is built from a source archive takes the archive's. An editable install needs none: it asks git when it runs.
"""

import os
import runpy
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Of hatchling; called once an archive."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._written: Path | None = None
        root = Path(self.root)
        build_info = runpy.run_path(str(root / "transcriber" / "build_info.py"))
        inside = f"transcriber/{build_info['COMMIT_FILE']}"
        if version == "editable" or (root / inside).exists():
            return
        if commit := os.environ.get("SOURCE_COMMIT", "").strip() or build_info["checked_out_commit"](root):
            with NamedTemporaryFile("w", delete=False, encoding="ascii") as file:
                file.write(f"{commit}\n")
            self._written = Path(file.name)
            self._written.chmod(0o644)
            build_data["force_include"][file.name] = inside

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        if self._written:
            self._written.unlink()
