"""Make the kernel: `kernel/entry.py` and what it needs of `src/reid`, in one script that a person can read.

    python kernel/bundle.py --out build/kernel [--weights WEIGHTS]

Kaggle takes the text of one file and nothing else. Each source file stands in it as it was written, comments and all,
in a raw string between ''' under its own heading, with its SHA-256. When the script starts, it checks every file
against its hash, writes them into a temporary folder, puts that folder first on `sys.path` and `PYTHONPATH`, and runs
the entry.

What is bundled: the entry, every module of `reid` that it imports, every module that those import, and so on. An import
counts wherever it stands, also inside a function: whether the kernel calls that function can't be told from the source.
Imports under `if TYPE_CHECKING:` never run and do not count. A module brings the `__init__.py` of its packages and the
files of its folder that are not Python, such as the report's template, but for those of modules that are not bundled;
`py.typed`, for type checkers, is left out.

Why so, and not otherwise (each was tried with processes started by fork, spawn and forkserver):
- A traceback names the module and its own line, with the source. With everything flattened into one namespace it names
  lines of the script only, names of different modules clash, and pickles say `__main__`; an importer that keeps the
  modules in memory loses the source lines of an uncaught traceback on Python 3.11.
- Other processes import `reid` from the folder as from any other: spawn and forkserver hand `sys.path` on, programs
  that are started anew read `PYTHONPATH`. Unpacking stands below `if __name__ == "__main__"`, so a process that loads
  the script again unpacks nothing.
- The folder is made by `mkdtemp`: nobody else on a shared machine can have put files there before.
- base64 or zip can't be read on Kaggle's page, and zip bytes differ with the clock and the zlib at hand.
- The same sources give the same bytes: files are ordered by their imports and their names, line ends are LF, no clock
  and no path of the machine goes in. The commit in the banner is the last one that changed the sources.

Refused, with file and line: what such a string can't hold (''', a carriage return, NUL, text that isn't UTF-8), imports
of a module that is not there, or of a name that a package only passes on (the import that it comes from would be
overlooked), imports that Kaggle can't serve (beyond the standard library and requirements.txt), and a script above
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = ["MODULE_NAMES", "NAME", "BundleError", "Source", "bundle", "manifest_hash", "read_sources", "write_bundle"]

ROOT = Path(__file__).resolve().parents[1]
NAME = "animal_reid.py"
PACKAGE = "reid"
ENTRY = "kernel_entry.py"
"""The entry's name when unpacked: a module of its own next to the package, which spawned processes can import."""

LIMIT = 900_000
"""Bytes. Kaggle refuses a script of 1 MB with HTTP 400; the rest is for the JSON around the text."""

ABSENT_ON_KAGGLE = {"kaggle", "six", "filelock"}
"""Requirements of the machines that train and push. Everything else in requirements.txt is on Kaggle's image."""

OPTIONAL = {"kornia"}
"""Not in requirements.txt, because only learned local features need it: on Kaggle's image in a version of the day, or
beside the weights (`make push-kernel KORNIA=DIR`). The modules that import it say so where it is missing."""

MODULE_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn", "opencv-python-headless": "cv2"}
"""Distributions whose module has another name."""

LEFT_BEHIND = {"py.typed"}
"""Files of a package that nothing reads at run time."""


Sums = Mapping[str, Sequence[str]]
"""See `reid.runtime.wheels`, which this file does not import: it needs nothing but Python."""


class BundleError(Exception):
    """Something can't be bundled; the message names the place and what to do."""


@dataclass(frozen=True)
class Source:
    """One source file: a module, or a text file that a module reads.

    Attributes:
        name: where it is unpacked, e.g. "reid/data/catalogue.py".
        origin: where it was read, relative to the repository, e.g. "src/reid/data/catalogue.py".
        text: its text, with LF line ends.
    """

    name: str
    origin: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_sources(package: Path, entry: Path, allowed: set[str]) -> list[Source]:
    """Return the entry and all that it needs of a package, each file checked, in an order in which a module only needs
    those before it; text files come first.

    Args:
        package: the folder `src/reid`.
        entry: the file `kernel/entry.py`.
        allowed: modules beyond the standard library that Kaggle's image has.

    Raises:
        BundleError: something can't be bundled.
    """
    sources = {ENTRY: _read(entry, ENTRY)}
    needs: dict[str, set[str]] = {}
    while missing := sorted(sources.keys() - needs.keys()):
        for name in missing:
            needs[name] = _needs(sources[name], package, allowed)
            reached = needs[name] | {init for below in {name, *needs[name]} for init in _packages_of(below)}
            sources |= {one: _read(package.parent / one, one) for one in sorted(reached - sources.keys())}
    texts = [_read(package.parent / name, name) for name in _texts_of(sources.keys(), package)]
    return [*texts, *(sources[name] for name in _in_order(needs))]


def _in_order(needs: dict[str, set[str]]) -> list[str]:
    """Return modules after those that they need; of those that could come next, all in alphabetical order."""
    graph = {**needs, ENTRY: needs.keys() - {ENTRY}}
    sorter = TopologicalSorter({name: sorted(graph[name]) for name in sorted(graph)})
    try:
        sorter.prepare()
    except CycleError as problem:
        raise BundleError(f"modules import each other in a circle: {' -> '.join(reversed(problem.args[1]))}") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def _packages_of(name: str) -> list[str]:
    """Return the __init__.py of every package that a module lies in: Python runs them first."""
    return [(parent / "__init__.py").as_posix() for parent in list(Path(name).parents)[:-1]]


def _texts_of(names: Iterable[str], package: Path) -> list[str]:
    """Return the files that are not Python in the folders of these modules, but for another module's: X.html.j2 is that
    of X.py where there is one."""
    modules = {package.parent / name for name in names if name != ENTRY}
    folders = sorted({module.parent for module in modules})
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
    owners = [path.with_name(f"{path.name.partition('.')[0]}.py") for path in files]
    own = [path for path, owner in zip(files, owners, strict=True) if owner in modules or not owner.exists()]
    kept = [path for path in own if path.suffix not in (".py", ".pyc") and path.name not in LEFT_BEHIND]
    return [path.relative_to(package.parent).as_posix() for path in kept]


def _read(path: Path, name: str) -> Source:
    """Return a source file after the proof that a raw string holds it."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as problem:
        raise BundleError(f"{_shown(path)}: expected a source file, but it can't be read ({problem})") from None
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise BundleError(f"{_shown(path)}:{line}: expected UTF-8, found byte {raw[problem.start]:#04x}") from None
    _refuse_forbidden(text, path)
    source = Source(name, _shown(path), text)
    if ast.literal_eval(_literal(source)) != "\n" + text:  # the rules are complete; this proves it for every file
        raise BundleError(f"{_shown(path)}: a raw string does not hold this text; please report it")
    return source


def _refuse_forbidden(text: str, path: Path) -> None:
    for forbidden, what in [
        ("'''", "''' would end the string that holds this file; write \"\"\""),
        ("\r", "a carriage return would be lost; save the file with LF line ends, write \\r in strings"),
        ("\0", "Python reads no NUL byte; write \\0"),
        ("\ufeff", "a byte order mark; save the file without it"),
    ]:
        if forbidden in text:
            line = text[: text.index(forbidden)].count("\n") + 1
            raise BundleError(f"{_shown(path)}:{line}: can't be bundled: {what}")
    if text and not text.endswith("\n"):
        raise BundleError(f"{_shown(path)}:{text.count(chr(10)) + 1}: expected a line end at the end of the file")


def _literal(source: Source) -> str:
    """Return the file as Python source: a raw string in which nothing is escaped, so that it reads as it was
    written."""
    return f"r'''\n{source.text}'''"


def _needs(source: Source, package: Path, allowed: set[str]) -> set[str]:
    """Return the names of the package's modules that a module imports; refuse imports that would fail on Kaggle."""
    try:
        tree = ast.parse(source.text)
    except SyntaxError as problem:
        raise BundleError(f"{source.origin}:{problem.lineno}: this is no Python ({problem.msg})") from None
    needs: set[str] = set()
    for line, module, names in _imports(tree):
        place = f"{source.origin}:{line}"
        top = module.partition(".")[0]
        if not top:
            raise BundleError(
                f"{place}: expected absolute imports, found a relative one; write `from {package.name}...`"
            )
        if top == package.name:
            needs |= _modules_of(module, names, package, place)
        elif top in ABSENT_ON_KAGGLE:
            raise BundleError(
                f"{place}: {top} is not on Kaggle's image; import it in modules that the kernel does not need"
            )
        elif top not in sys.stdlib_module_names and top not in allowed:
            raise BundleError(
                f"{place}: {top} is neither in the standard library nor in requirements.txt, which lists what "
                "Kaggle's image has; add it there with its reason if the image has it"
            )
    return needs - {source.name}


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, list[str]]]:
    """Yield every import of a file that can run: its line, the module (with its leading dots), the names taken."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or ""), [alias.name for alias in node.names]
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(ast.Module(node.orelse, []))
        else:
            yield from _imports(node)


def _modules_of(module: str, names: list[str], package: Path, place: str) -> set[str]:
    """Return the files of `import module`, or of `from module import names`, where a name may be a module itself."""
    own = _file_of(module, package)
    if own is None:
        raise BundleError(f"{place}: there is no module {module}; fix the import or add the file")
    if not own.endswith("/__init__.py"):
        return {own}
    files = {name: _file_of(f"{module}.{name}", package) for name in names}
    text = (package.parent / own).read_text("utf-8")
    for name in [name for name, file in files.items() if file is None]:
        if not re.search(rf"^(def |class )?{name}\b", text, re.MULTILINE):
            raise BundleError(
                f"{place}: {own} does not define {name}, nor is there a module of that name; import it from the module "
                "that defines it"
            )
    return {own, *filter(None, files.values())}


def _file_of(module: str, package: Path) -> str | None:
    """Return where a module of the package lies, e.g. "reid/data/catalogue.py"; None where there is no such file."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}/__init__.py", f"{path}.py") if (package.parent / name).is_file()), None)


def allowed_modules(requirements: Path) -> set[str]:
    """Return the modules that requirements.txt promises on Kaggle's image."""
    lines = [line.strip() for line in requirements.read_text("utf-8").splitlines()]
    names = {re.split(r"[<>=!~;\[ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}
    return OPTIONAL | {MODULE_NAMES.get(name, name) for name in names - ABSENT_ON_KAGGLE}


def bundle(sources: list[Source], commit: str, weights: str = "", wheels: Sums | None = None) -> str:
    """Return the script's text.

    Args:
        sources: in their order; the entry is the last.
        commit: what the banner says of where they come from.
        weights: SHA-256 of the manifest of the only weights that the script may run with; "" for any.
        wheels: by the name of a wheel that lies beside the weights, the SHA-256 of its file and of its RECORD.

    Raises:
        BundleError: it is larger than Kaggle takes.
    """
    files = [(source.name, source.sha256) for source in sources]
    listed = {name: list(sums) for name, sums in sorted((wheels or {}).items())}
    identity = hashlib.sha256(json.dumps([weights, *([listed] if listed else []), *files]).encode()).hexdigest()
    width = max(len(source.origin) for source in sources)
    contents = "\n".join(f"#   {source.origin:<{width}} {source.text.count(chr(10)):>5} lines" for source in sources)
    blocks = "\n".join(
        f'{_heading(source.origin)}\nFILES["{source.name}"] = "{source.sha256}", {_literal(source)}\n'
        for source in sources
    )
    text = HEAD.format(
        commit=commit, contents=contents, bundle=identity, weights=weights, name=NAME, wheels=json.dumps(listed)
    )
    text += f"{blocks}\n{_heading('start')}\n{START}"
    _refuse_large(text, sources)
    compile(text, NAME, "exec")
    return text


def _refuse_large(text: str, sources: list[Source]) -> None:
    size = len(text.encode())
    if size > LIMIT:
        sizes = sorted(((len(source.text.encode()), source.origin) for source in sources), reverse=True)[:3]
        largest = ", ".join(f"{origin} {count:,}" for count, origin in sizes)
        raise BundleError(
            f"{NAME}: expected {LIMIT:,} bytes at most, since Kaggle refuses 1 MB; found {size:,}. "
            f"The largest: {largest}"
        )


def _heading(words: str) -> str:
    return f"\n# ==== {words} ===="


HEAD = '''\
# {name}: tells individual animals apart in the photographs of AnimalCLEF25 and AnimalCLEF26.
#
# GENERATED, DO NOT EDIT. Every file below is checked against its hash when the script starts. To change something,
# edit the source that its heading names, then build again: python kernel/bundle.py --out build/kernel
#
# From {commit}. In it, each module after those that it needs:
{contents}
#
# Run it with --help for its options. Tracebacks name the modules and their own lines.
"""One file that holds what the kernel needs of the package `reid`; see the comment above."""

import atexit
import hashlib
import os
import shutil
import sys
import tempfile

NAME = "{name}"
BUNDLE = "{bundle}"
WEIGHTS = "{weights}"  # SHA-256 of the only manifest.json to run with; empty: any
WHEELS: dict[str, list[str]] = {wheels}  # by name: SHA-256 of the file and of its RECORD
FILES: dict[str, tuple[str, str]] = {{}}
'''

START = '''\
def unpack() -> str:
    """Write the files into a temporary folder that this process removes at its end."""
    folder = tempfile.mkdtemp(prefix=f"reid-{BUNDLE[:16]}-")
    atexit.register(remove, folder, os.getpid())
    for name, (sha256, text) in FILES.items():
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
    if os.getpid() == owner:  # not in a forked process
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    home = unpack()
    sys.path.insert(0, home)
    os.environ["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    import kernel_entry

    script = os.path.abspath(__file__)
    sys.exit(kernel_entry.main(sys.argv[1:], script=script, name=NAME, bundle=BUNDLE, weights=WEIGHTS, wheels=WHEELS))
'''


def write_bundle(out: Path, weights: Path | None = None, wheels: Sums | None = None) -> Path:
    """Bundle this repository into a folder and print what came out.

    Args:
        out: the folder.
        weights: a weights folder, if the script shall run with no others.
        wheels: see `bundle`.

    Returns:
        The script.

    Raises:
        BundleError: something can't be bundled, or the manifest is not there.
    """
    allowed = allowed_modules(ROOT / "requirements.txt")
    sources = read_sources(ROOT / "src" / PACKAGE, ROOT / "kernel" / "entry.py", allowed)
    text = bundle(sources, last_commit(), "" if weights is None else manifest_hash(weights), wheels)
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
    modules = sum(source.name.endswith(".py") for source in sources)
    print(f"bundled {modules} modules into {out / NAME}: {size:,} of {LIMIT:,} bytes, sha256 {sha256}", flush=True)
    return out / NAME


def manifest_hash(weights: Path) -> str:
    """Return the SHA-256 of the folder's manifest, which tells these weights from all others.

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
    """Return which commit the sources come from, and whether they were changed since."""
    sources = [f"src/{PACKAGE}", "kernel/entry.py", "kernel/bundle.py", "requirements.txt"]
    commit = _git("log", "-1", "--format=%H", "--", *sources)
    if not commit:
        return "sources outside a git repository"
    changed = _git("status", "--porcelain", "--", *sources)
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
    """Run the command line; return the exit status: 0 done, 2 something can't be bundled."""
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
