"""A network while it is trained: everything that has a state, one step at a time."""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reid.embedding import precision_on
from reid.networks import Network
from reid.norms import NORMS, over_ranks
from reid.objective import Labels
from reid.ranks import gathered, rank, world
from reid.recipe import Recipe

__all__ = ["Learner", "rate_at"]


class Pass(nn.Module):
    """From a rank's share of a batch to the loss of the whole batch."""

    def __init__(self, network: Network, objective: nn.Module, precision: torch.dtype) -> None:
        """
        Args:
            network: shares its weights with the one that is kept.
            objective, precision: as for `Learner`.
        """
        super().__init__()
        self.network, self.objective, self.precision = network, objective, precision

    def forward(self, inputs: Tensor, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """See `Learner.learn`."""
        with torch.autocast(inputs.device.type, self.precision, enabled=self.precision != torch.float32):
            vectors = self.network.head(self.network.look(inputs) if inputs.ndim == 4 else inputs)
        loss: tuple[Tensor, dict[str, float]] = self.objective(
            self.network, gathered(vectors.float(), len(labels.target)), labels
        )
        return loss


@dataclass
class Learner:
    """Network, loss, optimiser and all that changes with a step.

    Attributes:
        network: its weights are float32.
        objective: (network, vectors, labels) -> the loss and figures to log; its weights are learned along.
        whole: the `Pass` through both; over several ranks it takes the mean of their gradients. The trunk and the
            head are computed in the recipe's precision; the loss and the weights' steps are float32.
        optimizer, schedule: the schedule counts steps.
        scaler: keeps float16's gradients from vanishing; does nothing in another precision.
        frozen: "trunk", its "norms", or "nothing": what stays in evaluation mode.
        average: the exponential average of the network's weights; None where the recipe wants none.
        seed: of what a trunk drops at random.
        best: the weights that were kept, by name, on the processor; empty until `keep` was called.
    """

    network: Network
    objective: nn.Module
    whole: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    frozen: str
    average: AveragedModel | None
    seed: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, network: Network, objective: nn.Module, recipe: Recipe, steps: int, seed: int = 0) -> "Learner":
        """A learner before its first step.

        Args:
            network: on the device where it shall be trained.
            objective: as for the attribute; it is moved there.
            recipe: optimizer, rates, schedule, precision, ema.
            steps: how many there will be at most.
            seed: as for the attribute.
        """
        device = next(network.parameters()).device
        objective.to(device)
        trunk = [*network.trunk.parameters(), *network.pool.parameters()]
        for parameter in trunk:
            parameter.requires_grad_(recipe.trunk_rate > 0)
        added = [*network.head.parameters(), *network.neck.parameters(), *objective.parameters()]
        groups = [
            {"params": [parameter for parameter in parameters if parameter.requires_grad], "lr": rate}
            for parameters, rate in ((trunk, recipe.learning_rate * recipe.trunk_rate), (added, recipe.learning_rate))
        ]
        optimizer_class = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = optimizer_class(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        precision = precision_on(device, recipe.precision)
        return cls(
            network=network,
            objective=objective,
            whole=_whole(Pass(over_ranks(network), objective, precision), recipe),
            optimizer=optimizer,
            schedule=LambdaLR(optimizer, lambda step: rate_at(step, steps, recipe)),
            scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
            frozen="trunk" if not recipe.trunk_rate else "norms" if recipe.freeze_norms else "nothing",
            average=_average_of(network, recipe.ema) if recipe.ema else None,
            seed=seed,
        )

    @property
    def result(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        return cast(Network, self.average.module) if self.average else self.network

    def train(self) -> None:
        """Puts the network into training mode; a frozen trunk, or one with frozen norms, keeps its running means."""
        (trained,) = (module for module in self.whole.modules() if isinstance(module, Network))
        trained.train()
        if self.frozen == "trunk":
            trained.trunk.eval()
        for module in trained.trunk.modules():
            if self.frozen == "norms" and isinstance(module, (*NORMS, nn.SyncBatchNorm)):
                module.eval()

    def learn(self, inputs: Tensor, labels: Labels) -> dict[str, float]:
        """One step down the gradient of the loss.

        Args:
            inputs: this rank's share of the batch: photographs (b, 3, S, S) uint8, or a frozen trunk's features of
                them (b, F) float32.
            labels: of the whole batch, (B,), on the inputs' device.

        Returns:
            The loss of the whole batch, and what the objective logs.
        """
        # sown anew at every step, so that a run that goes on needs no state of the generators, on whatever device
        entropy = [self.seed, self.schedule.last_epoch, rank()]
        torch.manual_seed(int(np.random.default_rng(entropy).integers(2**63)))
        loss, figures = self.whole(inputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.network)
        return {"loss": float(loss.detach()), **figures}

    def keep(self) -> None:
        """Remembers the weights as they are now."""
        self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.result.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that is needed to go on."""
        return {**{name: part.state_dict() for name, part in self._parts().items()}, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.best = state["best"]

    def _parts(self) -> dict[str, Any]:
        parts = {
            "network": self.network,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        return {**parts, "average": self.average} if self.average else parts


def _whole(both: Pass, recipe: Recipe) -> nn.Module:
    if world() == 1 or not any(parameter.requires_grad for parameter in both.parameters()):
        return both
    # the only weights that a recipe can leave without a gradient
    may_lack_gradients = recipe.neck != "none" and recipe.triplet_before_neck and recipe.classification == "none"
    return DistributedDataParallel(both, find_unused_parameters=may_lack_gradients)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """What the learning rate is multiplied with: a straight rise, then constant or half a cosine down to zero."""
    warmup_steps = round(recipe.warmup * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup_steps) / max(1, steps - warmup_steps))))


def _average_of(network: Network, decay: float) -> AveragedModel:
    """An average that starts as a copy; running means and variances are averaged with the weights."""
    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
