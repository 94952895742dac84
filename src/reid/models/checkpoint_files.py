"""Files with weights that somebody else wrote: state dicts, alone or in a checkpoint. No code of theirs runs."""

import json
import logging
import pickle
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from reid.errors import InputError
from reid.models.backbones import first_line

__all__ = ["find_state_dict", "read_checkpoint", "tensor_faults"]

log = logging.getLogger(__name__)


def read_checkpoint(path: Path, expected: str) -> Any:
    """Return what a file with weights holds: a state dict, or a checkpoint with one somewhere in it. No code of the
    file runs.

    Args:
        path: a .safetensors file, or one that `torch.save` wrote.
        expected: how a message begins: what named the file, and what should be in it.

    Raises:
        InputError: there is no such file, it can't be read, or it holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    except (FileNotFoundError, IsADirectoryError):
        found_there = "a folder" if path.is_dir() else "no file"
        raise InputError(f"{expected}, found {found_there}; name the file with the weights") from None
    except pickle.UnpicklingError as problem:  # torch's message advises to run the code in it
        raise InputError(f"{expected}, {_how_to_extract(path, str(problem))}") from None
    except Exception as problem:  # safetensors and zip files raise their own
        raise InputError(f"{expected}, but it can't be read ({first_line(problem)})") from None


EXTRACT = (
    "import torch; from safetensors.torch import save_file; "
    "c = torch.load({old}, 'cpu', weights_only=False); c = c if isinstance(c, dict) else {{'model': c.state_dict()}}; "
    "save_file({{f'{{k}}.{{n}}': t.contiguous().clone() for k, d in {{'': c, **c}}.items() if isinstance(d, dict) "
    "for n, t in d.items() if isinstance(t, torch.Tensor)}}, {new})"
).replace("'", '"')  # a shell's single quotes go around it
"""What somebody who trusts a checkpoint types to get the tensors out of it."""


def _how_to_extract(path: Path, problem: str) -> str:
    """Return what torch found beside tensors and refused to load, and what to do."""
    # a name without a module, such as getattr, is no value that a training script keeps
    refused = re.search(r"GLOBAL (\S+\.\S+) was not an allowed", problem)
    if not refused or not zipfile.is_zipfile(path):
        return "but it can't be read: it is none, or holds more than tensors; name the file with the weights"
    extracted = path.with_suffix(".safetensors")
    code = EXTRACT.format(old=json.dumps(str(path)), new=json.dumps(str(extracted)))
    return (
        f"found {refused[1]} beside the tensors, which is not loaded, because loading it can run code. If you trust "
        f"those who made the file, name {extracted} instead, which this line writes: python -c {shlex.quote(code)}"
    )


def tensor_faults(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    """Return which of the expected tensors are missing, and which have other shapes, in words."""
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    misfits = [
        f"{key} (expected {tuple(expected[key].shape)}, found {tuple(tensors[key].shape)})"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    return [f"{key} (missing)" for key in missing], misfits


AVERAGED = ("ema", "teacher")
"""Where two state dicts fit alike, the one under such a key is taken, as timm does: it is the mean over many steps."""


def find_state_dict(content: Any, expected: set[str], where: str) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint that holds most of a network's names, without what stands before them: the
    keys of nested dicts, and what a larger model puts there, such as "module.backbone.".

    Args:
        content: see `read_checkpoint`.
        expected: the network's names.
        where: what a message names as the place.
    """
    candidates: dict[str, dict[str, Tensor]] = {}
    for place, tensors in _state_dicts(content):
        prefixes = Counter(name.removesuffix(end) for name in tensors for end in _ends(name) if end in expected)
        for prefix in {""} | {prefix for prefix, count in prefixes.items() if count > len(expected) / 2}:
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            candidates[place + prefix] = own
    fitting = {place: len(expected & candidates[place].keys()) for place in sorted(candidates)}
    averaged = {place: any(word in place.lower() for word in AVERAGED) for place in fitting}
    best = max(fitting, key=lambda place: (fitting[place], averaged[place], len(candidates[place])), default="")
    alike = [place for place in fitting if fitting[place] == fitting[best]] if fitting.get(best) else []
    if len(alike) > 1:
        log.info(f"{where}: it holds such weights {len(alike)} times ({', '.join(alike)}); those of {best} are taken")
    return candidates.get(best, {})


def _state_dicts(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of each of nested dicts, with the keys that lead there."""
    if isinstance(content, dict) and depth < 8:  # a dict may hold itself; training scripts nest two or three
        yield place, {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        for name, value in content.items():
            yield from _state_dicts(value, f"{place}{name}.", depth + 1)


def _ends(name: str) -> list[str]:
    """Return what a name ends in: a.b.c, b.c, c."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
