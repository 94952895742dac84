"""timm, imported without PyTorch's compiler: 1.5 s of work and 150 MB that every start would take for nothing.

torchvision and timm import `torch._dynamo` for a question and a decorator that are used later, if at all. While timm is
imported, something stands in for either; it loads the compiler when it is first called.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import torch

__all__ = ["timm"]

UTILS = "torch._dynamo.utils"


class _Utils(ModuleType):
    """Stands in for `torch._dynamo.utils`; any name but the one that torchvision takes loads the module itself."""

    def __getattr__(self, name: str) -> Any:
        if name == "is_compile_supported":
            return lambda *arguments: _loaded(self).is_compile_supported(*arguments)
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_loaded(self), name)


def _loaded(instead: ModuleType) -> ModuleType:
    if sys.modules.get(UTILS) is instead:
        del sys.modules[UTILS]
    return import_module(UTILS)


def _disable_later(disable: Callable[..., Any], function: Any = None, *arguments: Any, **options: Any) -> Any:
    """Stand in for `torch.compiler.disable`, which is called with a function or returns a decorator."""
    if not isinstance(function, FunctionType):
        return disable(function, *arguments, **options)
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        if not disabled:
            disabled.append(disable(function, *arguments, **options))
        return disabled[0](*values, **named)

    return call


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Inside, the stand-ins are there; not if the compiler is loaded already."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    utils, disable = _Utils(UTILS), torch.compiler.disable
    sys.modules[UTILS] = utils
    torch.compiler.disable = functools.partial(_disable_later, disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(UTILS) is utils:
            del sys.modules[UTILS]


with _without_compiler():
    import timm
