"""timm, and networks that are shapes alone, without PyTorch's compiler: 1.5 s of work and 150 MB that every start would
take for nothing.

torchvision and timm import `torch._dynamo` for a question and a decorator that are used later, if at all. While timm is
imported, something stands in for either; it loads the compiler when it is first called. On the device "meta" PyTorch
imports it for the decorator alone, which keeps the compiler out of functions; `shapes_only` does without.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import torch

__all__ = ["shapes_only", "timm"]

COMPILER = "torch._dynamo"

UTILS = "torch._dynamo.utils"


class _Instead(ModuleType):
    """Stands in for a module of PyTorch's compiler; any name but one that is known loads the module itself."""

    def __init__(self, module: str, name: str, value: Callable[..., Any]) -> None:
        super().__init__(module)
        self._known, self._value = name, value

    def __getattr__(self, name: str) -> Any:
        if name == self._known:
            return self._value
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_loaded(self), name)


def _loaded(instead: ModuleType) -> ModuleType:
    if sys.modules.get(instead.__name__) is instead:
        del sys.modules[instead.__name__]
    return import_module(instead.__name__)


def _is_compile_supported(*arguments: Any) -> Any:
    sys.modules.pop(UTILS, None)
    return import_module(UTILS).is_compile_supported(*arguments)


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
    if COMPILER in sys.modules:
        yield
        return
    utils, disable = _Instead(UTILS, "is_compile_supported", _is_compile_supported), torch.compiler.disable
    sys.modules[UTILS] = utils
    torch.compiler.disable = functools.partial(_disable_later, disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(UTILS) is utils:
            del sys.modules[UTILS]


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, what is built has shapes and no numbers, nor does what it computes (PyTorch's device "meta").

    Modules below `torch._dynamo` can't be imported inside before it is loaded itself; none of timm's backbones does so
    (one of each of its 98 modules was built and asked). PyTorch's own functions that are first called inside are not
    kept out of a compiler that is loaded later, which costs it time and changes no result.
    """
    with torch.device("meta"):
        if COMPILER in sys.modules:
            yield
            return
        instead = _Instead(COMPILER, "disable", lambda function, *_, **__: function)
        sys.modules[COMPILER] = instead
        try:
            yield
        finally:
            if sys.modules.get(COMPILER) is instead:
                del sys.modules[COMPILER]


with _without_compiler():
    import timm
