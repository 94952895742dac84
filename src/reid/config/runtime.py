"""How a machine does the work: an argument of each call, never part of a recipe."""

from dataclasses import dataclass

from reid.config.setting import check_values, setting

__all__ = ["Runtime"]


@dataclass(frozen=True)
class Runtime:
    """Device, number format, batch size and threads of one run: they change its speed, not what it is to compute."""

    device: str = setting(
        "auto", "auto takes a GPU where there is one; cuda refuses to run without one", choices=("auto", "cuda")
    )
    precision: str = setting(
        "auto",
        "the number format that networks compute in: auto takes bfloat16 where the device has it, float16 on other "
        "GPUs, float32 elsewhere; the weights themselves are always float32",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    batch_size: int = setting(64, "photographs that are embedded at a time", limits=(1, 65536))
    threads: int = setting(0, "threads that open photographs; 0 for one per core", limits=(0, 256))

    def __post_init__(self) -> None:
        check_values("runtime", self)
