"""Every reader of bytes from outside, for `test_fuzz.py` and the longer `benchmarks/fuzz.py`.

A fuzz target gets a folder of its own and some bytes. It returns where they are good, and raises `Refused` where they
are not; anything else is a bug. `mutated` changes good bytes in the ways that break readers.
"""

import io
import json
import re
import shutil
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from reid.config.presets import PRESETS
from reid.config.settings import recipe_from_json, recipe_from_toml
from reid.data.catalogue import COLUMNS, find_faults, read_catalogue, read_rows, rows_to_predict
from reid.data.checks import describe
from reid.data.photographs import UnreadableError, open_photograph
from reid.decision.artifact import (
    CALIBRATION,
    MANIFEST,
    Weights,
    encoder_file,
    gallery_file,
    open_weights,
    write_manifest,
)
from reid.decision.calibration import load_calibrations
from reid.decision.matches import MATCH_COLUMNS, read_matches
from reid.decision.metrics import check_submission, read_solution, read_submission, score_matches, score_submission
from reid.errors import InputError
from reid.models.networks import load_network
from reid.models.new_networks import build_network, plan_network, save_network
from reid.models.pretrained import describe_backbone
from reid.retrieval.cache import Cache, cache_key
from reid.retrieval.gallery import load_gallery
from reid.runtime.files import sha256_of, write_json, write_table

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "kernel"))

from kaggle_commands import unpack  # noqa: E402

CORPUS = ROOT / "tests" / "corpus"
"""What was once a finding, by target; `test_fuzz.py` tries all of it."""

Refused = (InputError, UnreadableError)


@dataclass(frozen=True)
class FuzzTarget:
    """A reader of bytes.

    Attributes:
        read: takes a folder that is its own, and bytes.
        good: bytes that it accepts.
        tokens: what confuses it.
    """

    read: Callable[[Path, bytes], None]
    good: Callable[[], bytes]
    tokens: tuple[bytes, ...]


# tables

ROWS = [
    "1,leo,a.jpg,2020-05-01,left,lion,database,Lions",
    '2,"Leo, ""the old"" one",b/c.JPG,2020,,,database,Lions',
    "3,,d.jpg,,,,query,Lions",
]
ODD_CELLS = (
    *(b'"', b",", b"\n", b"\r", b"\r\n", b"\0", b";", b"\xef\xbb\xbf", b"\xff", "é".encode(), b"=cmd|' /C calc'!A1"),
    *(b"../", b"/etc/passwd", b"new_individual", b"database", b"query", b"NaN", b"1e3", b"9" * 300, b"x" * 140_000),
    *(b"0000-01-01", b"9999-12-31T99", b"image_id", b"species", b"X.gallery", b"\x1b]0;x\x07"),
)


def metadata(folder: Path, content: bytes) -> None:
    (folder / "metadata.csv").write_bytes(content)
    catalogue = read_rows(folder)
    faults = find_faults(catalogue)
    assert all(fault.startswith(("row ", "expected ")) for fault in faults)
    catalogue = read_catalogue(folder)
    assert not faults
    assert all(folder.resolve() in path.resolve().parents for path in catalogue.paths)
    assert len(catalogue.fingerprint) == 64
    files = catalogue.table[["image_id"]].assign(sha256="", problem="")
    assert describe(catalogue, files)["images"].sum() == len(catalogue.database)
    write_table(folder / "again.csv", catalogue.table[list(COLUMNS)])
    (folder / "again.csv").replace(folder / "metadata.csv")
    again = read_catalogue(folder)  # what is written is what was read, whatever the cells hold
    assert (again.image_ids, again.identities) == (catalogue.image_ids, catalogue.identities)


def sample(folder: Path, content: bytes) -> None:
    (folder / "metadata.csv").write_text("\n".join([",".join(COLUMNS), *ROWS]))
    (folder / "sample_submission.csv").write_bytes(content)
    assert rows_to_predict(read_catalogue(folder)).image_ids == ["3"]


def submission(folder: Path, content: bytes) -> None:
    (folder / "s.csv").write_bytes(content)
    table = read_submission(folder / "s.csv")
    if not check_submission(table, ["1", "2"], {"leo", "mia"}):
        (folder / "solution.csv").write_bytes(SOLUTION)
        assert 0 <= score_submission(table, read_solution(folder / "solution.csv"))["Lions"].score <= 1


SOLUTION = b"image_id,identity,new_identity,dataset,Usage\n1,leo,False,Lions,Public\n2,zoe,True,Lions,Private\n"


def solution(folder: Path, content: bytes) -> None:
    (folder / "solution.csv").write_bytes(content)
    (folder / "s.csv").write_bytes(b"image_id,identity\n1,leo\n2,new_individual\n")
    score_submission(read_submission(folder / "s.csv"), read_solution(folder / "solution.csv"))


MATCHES = (
    ",".join(MATCH_COLUMNS).encode()
    + b"""
1,Lions,1,leo,7,0.25,0.75,0.5,leo,
1,Lions,2,mia,8,0.75,,0.5,leo,
2,Lions,1,,,,,,new_individual,no_candidates
"""
)


def matches(folder: Path, content: bytes) -> None:
    (folder / "s.matches.csv").write_bytes(content)
    (folder / "solution.csv").write_bytes(SOLUTION)
    table = read_matches(folder / "s.matches.csv")
    score_matches(table, read_solution(folder / "solution.csv"))


# weights

ODD_VALUES = (
    *(
        b"null",
        b"true",
        b"-1",
        b"0",
        b"1.5",
        b"1e999",
        b"NaN",
        b"9" * 25,
        b"[]",
        b"{}",
        b'""',
        b'"\\u0000"',
        b"[" * 2000,
    ),
    *(b'"../x"', b'"/etc/passwd"', b'"hf-hub:a/b"', b'"resnet50"', b"4294967296", b'["a", 1]', b'"F16"', b'"I64"'),
)


@cache
def network_bytes() -> bytes:
    plan = plan_network("test_resnet", 32, embedding_size=2, trained_on=("1", "2"))
    path = _scratch() / "network.safetensors"
    save_network(path, build_network(plan, 0, "none"))
    return path.read_bytes()


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="reid-fuzz-"))


def network(folder: Path, content: bytes) -> None:
    (folder / "Lions.safetensors").write_bytes(content)
    vectors = load_network(folder / "Lions.safetensors")(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert vectors.shape[0] == 2


def plan(folder: Path, content: bytes) -> None:
    """A network with good tensors and another plan."""
    length = struct.unpack("<Q", network_bytes()[:8])[0]
    header = json.loads(network_bytes()[8 : 8 + length])
    header["__metadata__"]["plan"] = content.decode("utf-8", "replace")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    network(folder, struct.pack("<Q", len(text)) + text + network_bytes()[8 + length :])


@cache
def plan_bytes() -> bytes:
    return json.dumps(asdict(plan_network("test_resnet", 32, embedding_size=2, trained_on=("1", "2")))).encode()


GALLERY_ROWS = {"image_id": ["1", "2"], "identity": ["leo", "mia"], "orientation": ["left", ""]}


@cache
def gallery_bytes(rows: bytes = json.dumps(GALLERY_ROWS).encode()) -> bytes:
    letters = torch.from_numpy(np.frombuffer(rows, dtype=np.uint8).copy())
    return save({"vectors": torch.eye(2), "rows": letters})


def gallery(folder: Path, content: bytes) -> None:
    (folder / "Lions.gallery.safetensors").write_bytes(content)
    found = load_gallery(folder / "Lions.gallery.safetensors")
    assert len(found.labels) == len(found.embeddings) == len(found.embeddings.vectors)


def rows(folder: Path, content: bytes) -> None:
    gallery(folder, gallery_bytes(content))


@cache
def weights_folder() -> Path:
    """A weights folder of one dataset; its gallery is not read here."""
    folder = _scratch() / "weights"
    folder.mkdir()
    (folder / encoder_file("Lions")).write_bytes(network_bytes())
    (folder / gallery_file("Lions")).write_bytes(gallery_bytes())
    write_json(folder / CALIBRATION, {})
    write_manifest(folder, PRESETS["toy"], ["Lions"], "f")
    return folder


def manifest(folder: Path, content: bytes) -> None:
    for file in weights_folder().iterdir():
        (folder / file.name).hardlink_to(file)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_bytes(content)
    weights = open_weights(folder)
    for dataset in weights.datasets:
        assert sha256_of(folder / encoder_file(dataset)) == weights.manifest["files"][encoder_file(dataset)]


THRESHOLD = {
    **{"dataset": "Lions", "value": 1.0, "score": 0.5, "interval": [0.1, 0.9], "baks": 0.5, "baus": 0.5},
    **{"share_new": 0.2, "plateau": [0.9, 1.1], "known": 3, "new": 3, "note": ""},
}
CURVE: dict[str, list[float]] = {name: [0.1, 0.2] for name in ("threshold", "baks", "baus", "score", "share_new")}
CALIBRATIONS = {
    "Lions": {
        **{"threshold": THRESHOLD, "scorer": {"kind": "distance", "fitted": {}}, "unit": 1.0},
        **{"scorer_scores": {"distance": 0.5}, "curve": CURVE, "known": [0.1], "new": [0.9]},
    }
}


def calibration(folder: Path, content: bytes) -> None:
    (folder / CALIBRATION).write_bytes(content)
    load_calibrations(Weights(folder, PRESETS["toy"], ("Lions",), {}))


CACHED = {cache_key("embedding", {}, word): {"vector": np.full(3, place)} for place, word in enumerate("ab")}


@cache
def cache_bytes() -> bytes:
    kept = Cache(_scratch())
    kept.put_many(CACHED)
    return kept.path.read_bytes()


def feature_cache(folder: Path, content: bytes) -> None:
    """What a cache returns is right or nothing, and it never refuses."""
    kept = Cache(folder)
    kept.path.parent.mkdir()
    kept.path.write_bytes(content)
    for key, arrays in CACHED.items():
        found = kept.get(key)
        assert found is None or np.array_equal(found["vector"], arrays["vector"])
    kept.put_many(CACHED)


@cache
def backbone_bytes() -> bytes:
    metadata = {"backbone": json.dumps(asdict(describe_backbone("test_resnet"))), "fetched": "test_resnet"}
    return save({"x": torch.zeros(2)}, metadata=metadata)


def backbone(folder: Path, content: bytes) -> None:
    (folder / "x.safetensors").write_bytes(content)
    assert describe_backbone("test_resnet", folder / "x.safetensors").image_size > 0


# recipes

RECIPE = b"""base = "finetuned"
seed = 7

[loss]
margin = 0.3
soft_margin = false

[augmentation]
kinds = ["rotation", "crop"]

[prediction]
scales = [1, 1.25]
"""


def recipe(folder: Path, content: bytes) -> None:
    (folder / "my.toml").write_bytes(content)
    read = recipe_from_toml(folder / "my.toml", PRESETS)
    assert recipe_from_json(json.loads(json.dumps(asdict(read)))) == read


# pictures and archives


def picture(kind: str) -> Callable[[], bytes]:
    @cache
    def draw() -> bytes:
        written = io.BytesIO()
        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
        exif = Image.Exif()
        exif[274] = 6
        image = Image.fromarray(pixels)
        if kind == "GIF":
            image.quantize(8).save(written, kind)
        else:
            image.save(written, kind, exif=exif)
        return written.getvalue()

    return draw


def photograph(folder: Path, content: bytes) -> None:
    (folder / "x.jpg").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken tags
        pixels = open_photograph(folder / "x.jpg", 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8


@cache
def archive_bytes() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("metadata.csv", "image_id\n" * 9)
        opened.writestr("images/a.jpg", b"pixels")
        opened.writestr(zipfile.ZipInfo("images/b.jpg"), b"pixels")
    return written.getvalue()


def archive(folder: Path, content: bytes) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "x.zip").write_bytes(content)
    try:
        unpack(folder / "in" / "x.zip", folder / "data")
    finally:
        left = {path.name for path in folder.iterdir()}
        assert left <= {"in", "data"}, left
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        assert (folder / "data" / "metadata.csv").is_file() or not (folder / "data").exists()


IN_SAFETENSORS = (*ODD_VALUES, b"\xff" * 8, b"\0" * 8, b"\x80\x04N.")
PICTURES = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
IN_PICTURES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xd8",
    b"\xff\xd9",
    b"Exif\0\0II*\0",
    b"IDAT",
)
IN_ARCHIVES = (
    b"../",
    b"/tmp/",
    b"..\\",
    b"\0",
    b"\xff\xff\xff\xff",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"\x08\0",
    b"\x0e\0",
    b"\x01\0",
)

TARGETS = {
    "metadata": FuzzTarget(metadata, lambda: "\n".join([",".join(COLUMNS), *ROWS]).encode(), ODD_CELLS),
    "sample": FuzzTarget(sample, lambda: b"image_id,identity\n3,new_individual\n", ODD_CELLS),
    "submission": FuzzTarget(submission, lambda: b"image_id,identity\n1,leo\n2,new_individual\n", ODD_CELLS),
    "solution": FuzzTarget(solution, lambda: SOLUTION, ODD_CELLS),
    "matches": FuzzTarget(matches, lambda: MATCHES, ODD_CELLS),
    "manifest": FuzzTarget(manifest, lambda: (weights_folder() / MANIFEST).read_bytes(), ODD_VALUES),
    "calibration": FuzzTarget(calibration, lambda: json.dumps(CALIBRATIONS).encode(), ODD_VALUES),
    "network": FuzzTarget(network, network_bytes, IN_SAFETENSORS),
    "plan": FuzzTarget(plan, plan_bytes, ODD_VALUES),
    "gallery": FuzzTarget(gallery, gallery_bytes, IN_SAFETENSORS),
    "rows": FuzzTarget(rows, lambda: json.dumps(GALLERY_ROWS).encode(), ODD_VALUES),
    "cache": FuzzTarget(feature_cache, cache_bytes, IN_SAFETENSORS),
    "recipe": FuzzTarget(recipe, lambda: RECIPE, ODD_VALUES),
    "backbone": FuzzTarget(backbone, backbone_bytes, IN_SAFETENSORS),
    "archive": FuzzTarget(archive, archive_bytes, IN_ARCHIVES),
    **{kind: FuzzTarget(photograph, picture(kind), IN_PICTURES) for kind in PICTURES},
}


def run_target(target: FuzzTarget, folder: Path, content: bytes) -> bool:
    """Return whether the bytes were accepted. The folder is emptied first.

    Raises:
        Exception: anything but `Refused` is a finding.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        target.read(folder, content)
    except Refused as refused:
        assert len(str(refused)) < 3000, "one line is not a page"
        return False
    return True


TOKEN = re.compile(rb'"[^"\\]*"|-?\d+(?:\.\d+)?|true|false|null|[^,"\n]+')


@st.composite
def mutated(draw: st.DrawFn, target: FuzzTarget) -> bytes:
    """Good bytes with a few of them changed, cut, doubled, or replaced by a token."""
    content = target.good()
    for _ in range(draw(st.integers(1, 4))):
        header = min(len(content), 1500)  # where readers are easily misled; the rest are mostly numbers
        place = draw(st.integers(0, header) if draw(st.booleans()) else st.integers(0, len(content)))
        match draw(st.sampled_from(["replace", "replace", "insert", "cut", "drop", "flip", "double"])):
            case "replace":
                found = TOKEN.search(content, min(place, header))
                if found:
                    content = content[: found.start()] + draw(st.sampled_from(target.tokens)) + content[found.end() :]
            case "insert":
                inserted = draw(st.sampled_from(target.tokens) | st.binary(max_size=8))
                content = content[:place] + inserted + content[place:]
            case "cut":
                content = content[:place]
            case "drop":
                content = content[:place] + content[place + draw(st.integers(1, 40)) :]
            case "flip":
                if place < len(content):
                    bit = 1 << draw(st.integers(0, 7))
                    content = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
            case "double":
                content = content[:place] + content[max(0, place - draw(st.integers(1, 99))) :]
    if target.tokens is IN_SAFETENSORS and draw(st.booleans()):
        content = _with_header_length(content)
    return content


def _with_header_length(content: bytes) -> bytes:
    """A safetensors file whose first number is again the length of its header, however that was changed."""
    end = content.rfind(b"}", 0, 4000) + 1
    return struct.pack("<Q", max(0, end - 8)) + content[8:]
