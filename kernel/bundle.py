"""Makes the kernel: all of `src/reid` and `kernel/entry.py` in one script that Kaggle can run and a person can read.

    python kernel/bundle.py --out build/kernel [--weights WEIGHTS]

Kaggle takes the text of one file and nothing beside it. Each room stands in that file as it was written, comments and
all, in a raw string between ''' under its own heading, with its SHA-256. When the script starts, it checks every room
against its hash, writes them into a temporary folder whose name holds the bundle's own hash, puts that folder first on
`sys.path` and `PYTHONPATH`, and runs the entry.

Why so, and not otherwise (each was tried with DataLoader workers started by fork, spawn and forkserver):
- A traceback names a real file, the room, and that room's own line, with the source beside it. With everything
  flattened into one namespace it names lines of the script only, names of different rooms clash, and pickles say
  `__main__`; an importer that keeps the rooms in memory loses the source lines of an uncaught traceback on Python 3.11.
- Workers import `reid.images` from the folder as from any other: spawn and forkserver hand `sys.path` on, programs
  that are started anew read `PYTHONPATH`. Unpacking stands below `if __name__ == "__main__"`, so a worker that loads
  the script again unpacks nothing.
- The folder is made by `mkdtemp`: nobody else on a shared machine can have put files there before.
- base64 or zip can't be read on Kaggle's page, and zip bytes differ with the clock and the zlib at hand.
- The same sources give the same bytes: rooms are ordered by their imports and their names, line ends are LF, no clock
  and no path of the machine goes in. The commit in the banner is the last one that changed what is carried.

Refused, with file and line: what such a string can't hold (''', a carriage return, NUL, text that isn't UTF-8), what
would not be carried (other files, subfolders, a room that is not there), what would not be found on Kaggle (imports
beyond the standard library and requirements.txt; the kaggle client, which has no network there), and a script above
900,000 bytes, since Kaggle answers HTTP 400 from 1 MB on.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODULE_NAMES", "NAME", "BundleError", "Room", "bundle", "manifest_hash", "read_rooms", "write_bundle"]

ROOT = Path(__file__).resolve().parents[1]
NAME = "animal_reid.py"
PACKAGE = "reid"
ENTRY = "kernel_entry.py"
"""The entry's name when unpacked: a module of its own beside the package, which spawned processes can import."""

LIMIT = 900_000
"""Bytes. Kaggle refuses a script of 1 MB with HTTP 400; the rest is for the JSON around the text."""

ABSENT_ON_KAGGLE = {"kaggle", "six"}
"""Requirements of the machine that pushes. Everything else in requirements.txt is on Kaggle's image."""

MODULE_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn", "opencv-python-headless": "cv2"}
"""Distributions whose module has another name."""


class BundleError(Exception):
    """Something can't be carried; the message names the place and what to do."""


@dataclass(frozen=True)
class Room:
    """One source file.

    Attributes:
        name: where it is unpacked, e.g. "reid/catalogue.py".
        source: where it was read, relative to the repository, e.g. "src/reid/catalogue.py".
        text: its text, with LF line ends.
    """

    name: str
    source: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_rooms(package: Path, entry: Path, allowed: set[str]) -> list[Room]:
    """Return the rooms of a package and the entry, each checked, in an order in which a room only needs those before
    it.

    Args:
        package: the folder `src/reid`.
        entry: the file `kernel/entry.py`.
        allowed: modules beyond the standard library that the image has.

    Raises:
        BundleError: something can't be carried.
    """
    for path in sorted(package.iterdir()):
        if path.name == "__pycache__":
            continue
        if path.is_dir():
            raise BundleError(f"{_shown(path)}: expected a flat package, found a subfolder; move its rooms up")
        if path.suffix != ".py":
            raise BundleError(f"{_shown(path)}: expected .py files only, since nothing else travels; move it elsewhere")
    if not (package / "__init__.py").is_file():
        raise BundleError(f"{_shown(package)}: expected a package, found no __init__.py")
    rooms = [_read(path, f"{package.name}/{path.name}") for path in sorted(package.glob("*.py"))]
    rooms.append(_read(entry, ENTRY))
    names = {room.name for room in rooms}
    needs = {room.name: _needs(room, package.name, names, allowed) for room in rooms}
    return sorted(rooms, key=lambda room: (room.name == ENTRY, _height(room.name, needs), room.name))


def _read(path: Path, name: str) -> Room:
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as problem:
        raise BundleError(f"{_shown(path)}: expected a Python file, but it can't be read ({problem})") from None
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise BundleError(f"{_shown(path)}:{line}: expected UTF-8, found byte {raw[problem.start]:#04x}") from None
    for forbidden, what in [
        ("'''", "''' would end the string that carries this file; write \"\"\""),
        ("\r", "a carriage return would be lost; save the file with LF line ends, write \\r in strings"),
        ("\0", "Python reads no NUL byte; write \\0"),
        ("\ufeff", "a byte order mark; save the file without it"),
    ]:
        if forbidden in text:
            line = text[: text.index(forbidden)].count("\n") + 1
            raise BundleError(f"{_shown(path)}:{line}: can't be carried: {what}")
    if text and not text.endswith("\n"):
        raise BundleError(f"{_shown(path)}:{text.count(chr(10)) + 1}: expected a line end at the end of the file")
    room = Room(name, _shown(path), text)
    if ast.literal_eval(_literal(room)) != "\n" + text:  # the rule above is complete; this proves it for every file
        raise BundleError(f"{_shown(path)}: a raw string does not hold this text; please report it")
    return room


def _literal(room: Room) -> str:
    """Return the room as Python source: a raw string in which nothing is escaped, so that it reads as it was
    written."""
    return f"r'''\n{room.text}'''"


def _needs(room: Room, package: str, names: set[str], allowed: set[str]) -> set[str]:
    """Return which rooms a room imports; refuses imports that nothing on Kaggle would answer."""
    try:
        tree = ast.parse(room.text)
    except SyntaxError as problem:
        raise BundleError(f"{room.source}:{problem.lineno}: this is no Python ({problem.msg})") from None
    needs = set()
    for line, module, parts in _imports(tree):
        place = f"{room.source}:{line}"
        if module.startswith("."):
            raise BundleError(f"{place}: expected absolute imports, found a relative one; write `from {package}...`")
        top, _, below = module.partition(".")
        if top == package:
            wanted = {below.split(".")[0]} if below else {part for part in parts if f"{package}/{part}.py" in names}
            missing = [one for one in wanted if f"{package}/{one}.py" not in names]
            if missing:
                raise BundleError(f"{place}: {package} has no room {missing[0]}.py; mend the import or add the file")
            needs |= {f"{package}/{one}.py" for one in wanted} | {f"{package}/__init__.py"}
        elif top in ABSENT_ON_KAGGLE:
            raise BundleError(f"{place}: {top} can't be used inside a kernel; keep it in kernel/ beside the bundler")
        elif top not in sys.stdlib_module_names and top not in allowed:
            raise BundleError(
                f"{place}: {top} is neither in the standard library nor in requirements.txt, which lists what "
                "Kaggle's image has; add it there with its reason if the image has it"
            )
    return needs - {room.name}


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, list[str]]]:
    """Return every import of a file, wherever it stands: its line, the module (with its leading dots), the names
    taken."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or ""), [alias.name for alias in node.names]


def _height(name: str, needs: dict[str, set[str]], above: tuple[str, ...] = ()) -> int:
    """Return how many floors of rooms a room stands upon."""
    if name in above:
        raise BundleError(f"{name}: rooms import each other in a circle: {' -> '.join([*above, name])}")
    return max((_height(below, needs, (*above, name)) + 1 for below in needs[name]), default=0)


def allowed_modules(requirements: Path) -> set[str]:
    """Return the modules that requirements.txt promises on Kaggle's image."""
    lines = [line.strip() for line in requirements.read_text("utf-8").splitlines()]
    names = {re.split(r"[<>=!~;\[ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}
    return {MODULE_NAMES.get(name, name) for name in names - ABSENT_ON_KAGGLE}


def bundle(rooms: list[Room], commit: str, weights: str = "") -> str:
    """Return the script's text.

    Args:
        rooms: in their order; the entry is the last.
        commit: what the banner says of where the rooms come from.
        weights: SHA-256 of the manifest of the only weights that the script may run with; "" for any.

    Raises:
        BundleError: it is larger than Kaggle takes.
    """
    identity = hashlib.sha256(json.dumps([weights, *([room.name, room.sha256] for room in rooms)]).encode()).hexdigest()
    contents = "\n".join(
        f"#   {room.name:<24} {room.text.count(chr(10)):>5} lines, from {room.source}" for room in rooms
    )
    blocks = "\n".join(
        f'{_heading(f"{room.name}, from {room.source}")}\nROOMS["{room.name}"] = "{room.sha256}", {_literal(room)}\n'
        for room in rooms
    )
    text = HEAD.format(commit=commit, contents=contents, bundle=identity, weights=weights, name=NAME)
    text += f"{blocks}\n{_heading('start')}\n{START}"
    if len(text.encode()) > LIMIT:
        sizes = sorted(((len(room.text.encode()), room.source) for room in rooms), reverse=True)[:3]
        largest = ", ".join(f"{source} {size:,}" for size, source in sizes)
        raise BundleError(
            f"{NAME}: expected {LIMIT:,} bytes at most, since Kaggle refuses 1 MB; found {len(text.encode()):,}. "
            f"The largest: {largest}"
        )
    compile(text, NAME, "exec")
    return text


def _heading(words: str) -> str:
    return f"\n# {'=' * 118}\n# {words}\n# {'=' * 118}"


HEAD = '''\
# {name}: tells individual animals apart in the photographs of AnimalCLEF25.
#
# GENERATED, DO NOT EDIT. Every room below is checked against its hash when the script starts. To change something,
# edit the file that its heading names, then build again: python kernel/bundle.py --out build/kernel
#
# From {commit}. In it, each room after those that it needs:
{contents}
#
# Run it with --help for its options. Tracebacks name the rooms and their own lines.
"""One file that holds the whole package `reid`; see the comment above."""

import atexit
import hashlib
import os
import shutil
import sys
import tempfile

NAME = "{name}"
BUNDLE = "{bundle}"
WEIGHTS = "{weights}"  # SHA-256 of the only manifest.json to run with; empty: any
ROOMS: dict[str, tuple[str, str]] = {{}}
'''

START = '''\
def unpack() -> str:
    """Writes the rooms into a temporary folder that this process removes at its end."""
    folder = tempfile.mkdtemp(prefix=f"reid-{BUNDLE[:16]}-")
    atexit.register(remove, folder, os.getpid())
    for name, (sha256, text) in ROOMS.items():
        content = text[1:].encode()  # without the line end after the opening quotes
        if hashlib.sha256(content).hexdigest() != sha256:
            print(f"error: {name}: it is not what was bundled. Edit the source and build again", file=sys.stderr)
            sys.exit(2)
        path = os.path.join(folder, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(content)
    return folder


def remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked worker
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    home = unpack()
    sys.path.insert(0, home)
    os.environ["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    import kernel_entry

    script = os.path.abspath(__file__)
    sys.exit(kernel_entry.main(sys.argv[1:], script=script, name=NAME, bundle=BUNDLE, weights=WEIGHTS))
'''


def write_bundle(out: Path, weights: Path | None = None) -> Path:
    """Bundle this repository into a folder and says what came out.

    Args:
        out: the folder.
        weights: a weights folder, if the script shall run with no others.

    Raises:
        BundleError: something can't be carried, or the manifest is not there.
    """
    rooms = read_rooms(ROOT / "src" / PACKAGE, ROOT / "kernel" / "entry.py", allowed_modules(ROOT / "requirements.txt"))
    text = bundle(rooms, last_commit(), "" if weights is None else manifest_hash(weights))
    part = out / f".{NAME}.{os.getpid()}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        part.write_bytes(text.encode())
        part.replace(out / NAME)
    except OSError as problem:
        raise BundleError(
            f"{out / NAME}: could not be written ({problem.strerror}); name a folder with --out"
        ) from None
    size, sha256 = len(text.encode()), hashlib.sha256(text.encode()).hexdigest()
    print(f"bundled {len(rooms)} rooms into {out / NAME}: {size:,} of {LIMIT:,} bytes, sha256 {sha256}", flush=True)
    return out / NAME


def manifest_hash(weights: Path) -> str:
    """SHA-256 of the folder's manifest, which tells these weights from all others.

    Raises:
        BundleError: there is none.
    """
    try:
        return hashlib.sha256((weights / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        raise BundleError(
            f"{weights / 'manifest.json'}: expected the manifest of a weights folder, found none; run `make train`, "
            "or name another folder with WEIGHTS="
        ) from None


def last_commit() -> str:
    """Return which commit the carried files come from, and whether they were changed since."""
    carried = [f"src/{PACKAGE}", "kernel/entry.py", "kernel/bundle.py", "requirements.txt"]
    commit = _git("log", "-1", "--format=%H", "--", *carried)
    if not commit:
        return "sources outside a git repository"
    changed = _git("status", "--porcelain", "--", *carried)
    return f"commit {commit}" + (" + uncommitted changes" if changed else "")


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or not a repository
        return ""
    return answer.stdout.strip()


def _shown(path: Path) -> str:
    """Return a path as messages and headings name it: relative to the repository where it lies inside."""
    path = path.absolute()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """Return the command line; gives the exit status: 0 done, 2 something can't be carried."""
    parser = argparse.ArgumentParser(description="Bundle the package into one script for Kaggle.")
    parser.add_argument("--out", type=Path, default=Path("build/kernel"), help="the folder to write the script into")
    parser.add_argument("--weights", type=Path, help="the only weights folder that the script shall run with")
    options = parser.parse_args(arguments)
    try:
        write_bundle(options.out, options.weights)
    except BundleError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
