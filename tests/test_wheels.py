"""Wheels beside the kernel: nothing with another sum is taken, as a file or unpacked."""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reid.errors import InputError
from reid.runtime.wheels import sums_of_wheels, use_wheels

NAMES = {"kornia": "kornia-0.8.3-py2.py3-none-any.whl", "kornia_rs": "kornia_rs-0.2.0-cp312-cp312-manylinux_2_28.whl"}


def write_wheels(folder: Path, content: str = "WHERE = __file__\n") -> Path:
    """Two wheels with one module each."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, wheel in NAMES.items():
        info = "-".join(wheel.split("-")[:2]) + ".dist-info"
        version = wheel.split("-")[1]
        files = {f"{package}/__init__.py": content, f"{info}/METADATA": f"Name: {package}\nVersion: {version}\n"}
        lines = []
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
            lines.append(f"{name},sha256={digest},{len(text)}")
        with zipfile.ZipFile(folder / wheel, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
            archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return folder


def mount(wheels: Path, folder: Path, unpacked: bool) -> Path:
    """The folder as Kaggle may mount it."""
    if not unpacked:
        return Path(shutil.copytree(wheels, folder))
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def imported(sums: dict[str, tuple[str, str]], places: list[Path]) -> str:
    """What a process prints that uses the wheels: where the modules are, and the version; or the error."""
    code = (
        "import sys; from pathlib import Path; from reid.errors import InputError; "
        "from reid.runtime.wheels import use_wheels\n"
        f"try:\n    use_wheels({sums!r}, [*map(Path, {[*map(str, places)]!r})])\n"
        "except InputError as problem:\n    sys.exit(str(problem))\n"
        "import kornia, kornia_rs, importlib.metadata as m; print(kornia.WHERE, kornia_rs.WHERE, m.version('kornia'))\n"
        "try:\n    import planted; print('planted')\nexcept ImportError:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("unpacked", [False, True], ids=["files", "unpacked"])
def test_wheels_are_taken_wherever_they_lie_and_copied(unpacked: bool, tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    place = mount(wheels, tmp_path / "mounted", unpacked)
    (place / "planted.py").write_text("")
    printed = imported(sums_of_wheels(wheels, NAMES), [tmp_path, place])
    assert re.fullmatch(r"\S*/reid-wheels-\w+/kornia/__init__.py \S*/kornia_rs/__init__.py 0\.8\.3\n", printed), printed
    assert not Path(printed.split()[0]).exists()  # it went with the process


@pytest.mark.parametrize("unpacked", [False, True], ids=["files", "unpacked"])
def test_wheels_with_another_sum_are_refused(unpacked: bool, tmp_path: Path) -> None:
    sums = sums_of_wheels(write_wheels(tmp_path / "wheels"), NAMES)
    other = mount(write_wheels(tmp_path / "other", "WHERE = 'elsewhere'\n"), tmp_path / "mounted", unpacked)
    printed = imported(sums, [other])
    assert "expected the wheel kornia-0.8.3-py2.py3-none-any.whl with sha256" in printed
    assert str(other) in printed
    with pytest.raises(InputError, match=r"found none\. Choose the latest version.*make push-kernel KORNIA=DIR"):
        use_wheels(sums, [tmp_path])


def test_an_unpacked_file_that_was_changed_or_is_missing_is_named(tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path / "wheels")
    place = mount(wheels, tmp_path / "mounted", unpacked=True)
    module = place / "kornia_rs" / "__init__.py"
    module.write_text("WHERE = 'changed'\n")
    assert f"{module}: expected sha256" in imported(sums_of_wheels(wheels, NAMES), [place])
    module.unlink()
    assert f"{module}: expected a file of a wheel" in imported(sums_of_wheels(wheels, NAMES), [place])


def test_a_folder_needs_one_wheel_of_each(tmp_path: Path) -> None:
    wheels = write_wheels(tmp_path)
    shutil.copy(wheels / NAMES["kornia"], wheels / "kornia-0.9.0-py2.py3-none-any.whl")
    with pytest.raises(InputError, match=r"expected one wheel kornia-VERSION.*found kornia-0\.8\.3\S+, kornia-0\.9\.0"):
        sums_of_wheels(wheels, NAMES)
    (wheels / NAMES["kornia_rs"]).unlink()
    with pytest.raises(InputError, match=r"found none.*pip download kornia-rs --no-deps"):
        sums_of_wheels(wheels, ["kornia_rs"])
    (wheels / NAMES["kornia_rs"]).write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"expected a wheel, but it can't be read"):
        sums_of_wheels(wheels, ["kornia_rs"])
