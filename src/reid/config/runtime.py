"""How a machine does the work: an argument of whoever runs it, and never part of a recipe."""

from dataclasses import dataclass

from reid.config.setting import check_values, setting

__all__ = ["Runtime"]


@dataclass(frozen=True)
class Runtime:
    """Device, number format and batch size of one run. They change how fast it is, not what it is meant to compute."""

    device: str = setting(
        "auto", "auto works on a GPU where there is one; cuda refuses to work without one", choices=("auto", "cuda")
    )
    precision: str = setting(
        "auto",
        "the number format that networks compute in; auto takes bfloat16 where the device has it, float16 on other "
        "GPUs, float32 elsewhere. The weights themselves are float32 in any case",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    batch_size: int = setting(64, "photographs in a batch of embedding", limits=(1, 65536))
    threads: int = setting(0, "threads that open photographs; 0 for one per core", limits=(0, 256))

    def __post_init__(self) -> None:
        check_values("runtime", self)
