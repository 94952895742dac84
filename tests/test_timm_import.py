"""timm comes without PyTorch's compiler, and whoever wants that later gets it as if it had been imported at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from reid.models.new_networks import build_network, plan_network, save_network


def answer(code: str) -> str:
    """What a Python program of its own prints."""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.mark.parametrize(
    "module", ["decision.predict", "decision.calibrate", "decision.enroll", "retrieval.embedding", "training.train"]
)
def test_what_commands_run_does_not_load_the_compiler(module: str) -> None:
    assert answer(f"import reid.{module}, sys; print('torch._dynamo' in sys.modules)") == "False\n"


def test_what_torchvision_asks_of_the_compiler_is_answered_by_it() -> None:
    code = """
import reid.models.networks
from torchvision.ops import roi_align
asked = roi_align.__globals__["is_compile_supported"]
found = [asked(device) for device in ("cpu", "cuda", "mps")]
from torch._dynamo.utils import is_compile_supported
print(found == [is_compile_supported(device) for device in ("cpu", "cuda", "mps")])"""
    assert answer(code) == "True\n"


def test_what_timm_keeps_from_the_compiler_runs_and_is_kept_from_it() -> None:
    code = """
import reid.models.networks, torch
from timm.layers import disable_compiler

@disable_compiler
def seen(value):
    return value if torch.compiler.is_compiling() else value + 1

@torch.compile(backend="eager")
def doubled(value):
    return seen(value * 2)

print(seen(torch.tensor(1)).item(), doubled(torch.tensor(1)).item(), seen.__name__)"""
    assert answer(code) == "2 3 seen\n"


def test_torch_is_afterwards_as_it_was_before() -> None:
    code = """
import sys, torch
before = torch.compiler.disable
import reid.models.networks
print(torch.compiler.disable is before, [name for name in sys.modules if name.startswith("torch._dynamo")])
import torch._dynamo.utils
print(torch._dynamo.utils.__file__ is not None, torch._dynamo.utils.counters == {})"""
    assert answer(code) == "True []\nTrue True\n"


def test_other_names_of_the_compiler_may_be_taken_while_timm_is_imported() -> None:
    code = """
import sys, torch
from importlib.abc import MetaPathFinder

class TakesAnother(MetaPathFinder):  # as another version of torchvision might
    def find_spec(self, name, path, target=None):
        if name == "torchvision.ops.roi_align":
            from torch._dynamo.utils import counters
            print(type(counters).__name__)

sys.meta_path.insert(0, TakesAnother())
import reid.models.networks, torchvision
print(torchvision.ops.roi_align.__name__, sys.modules["torch._dynamo.utils"].__file__ is not None)"""
    assert answer(code) == "defaultdict\nroi_align True\n"


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_shapes_alone_need_no_compiler_and_it_works_afterwards(name: str) -> None:
    code = f"""
import sys, torch
from reid.models.backbones import gives_feature_map
from reid.models.timm_import import shapes_only
found = gives_feature_map("{name}", 96, 2)
with shapes_only():
    meta = torch.ones(3).normal_().add(1)
print(found, meta.is_meta, [name for name in sys.modules if name.startswith("torch._dynamo")])

@torch.compile(backend="eager")
def doubled(value):
    return value * 2 if torch.compiler.is_compiling() else value

print(doubled(torch.tensor(1)).item(), torch.rand(2).sum().is_meta)
with shapes_only():
    print(torch.ones(3).normal_().is_meta)"""
    assert answer(code) == "True True []\n2 False\nTrue\n"


def test_a_network_is_read_without_the_compiler(tmp_path: Path) -> None:
    network = build_network(plan_network("test_resnet", 32, embedding_size=4), 0, "none")
    save_network(tmp_path / "some.safetensors", network)
    code = f"""
import sys
from pathlib import Path
from reid.models.networks import load_network
load_network(Path({str(tmp_path / "some.safetensors")!r}))
print("torch._dynamo" in sys.modules)"""
    assert answer(code) == "False\n"
