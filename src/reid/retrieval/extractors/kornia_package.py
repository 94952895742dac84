"""The package kornia, which has the networks of learned local features. The kit does without it otherwise."""

import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from reid.config.recipe import ROOTSIFT
from reid.errors import InputError

__all__ = ["OLDEST", "importing_kornia", "kornia_version", "refuse_old_kornia"]

OLDEST = (0, 8, 3)
"""The first version with ALIKED and XFeat."""


def kornia_version() -> str:
    """Return the version that is installed; "" where there is none."""
    try:
        return version("kornia")
    except PackageNotFoundError:
        return ""


def refuse_old_kornia(name: str) -> None:
    """Refuse to go on for a local feature where kornia is missing or too old; it is not imported for that.

    Raises:
        InputError: it is; the message says what works without.
    """
    found, wanted = kornia_version(), ".".join(map(str, OLDEST))
    if found and tuple(map(int, re.findall(r"\d+", found)[:3])) >= OLDEST:
        return
    raise InputError(
        f"local feature {name}: expected the package kornia {wanted} or newer, found "
        f"{f'kornia {found}' if found else 'none'}. Install it: pip install 'kornia>={wanted}'; on Kaggle: make "
        "push-kernel KORNIA=DIR, with its wheels in DIR. The presets paper, baseline, keypoints, frozen, finetuned and "
        f"toy work without it, since they have keypoints.extractor={ROOTSIFT}. A folder that is trained needs `reid "
        f"enroll DATA --weights WEIGHTS --set keypoints.extractor={ROOTSIFT}` and then `reid calibrate`"
    )


@contextmanager
def importing_kornia() -> Iterator[None]:
    """Inside, kornia may be imported: it warns of parts of torch that later versions of torch will do without.

    Raises:
        InputError: it can't be, for example because kornia-rs is another Python's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as problem:
        raise InputError(
            f"kornia {kornia_version()}: expected to import it, but it can't be ({problem}); install kornia and "
            f"kornia-rs for Python {platform.python_version()} again"
        ) from None
