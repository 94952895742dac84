"""A network while it is trained: everything that has a state, one step at a time."""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reid.embedding import precision_on
from reid.networks import Network
from reid.objective import Labels
from reid.recipe import Recipe

__all__ = ["Learner", "rate_at"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""timm's own batch norms are among them by inheritance."""


@dataclass
class Learner:
    """Network, loss, optimiser and all that changes with a step.

    Attributes:
        network: its weights are float32.
        objective: (network, vectors, labels) -> the loss and figures to log; its weights are learned along.
        precision: what the trunk and the head are computed in; the loss and the weights' steps are float32.
        optimizer, schedule: the schedule counts steps.
        scaler: keeps float16's gradients from vanishing; does nothing in another precision.
        frozen: "trunk", its "norms", or "nothing": what stays in evaluation mode.
        average: the exponential average of the network's weights; None where the recipe wants none.
        best: the weights that were kept, by name, on the processor; empty until `keep` was called.
    """

    network: Network
    objective: nn.Module
    precision: torch.dtype
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    frozen: str
    average: AveragedModel | None
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, network: Network, objective: nn.Module, recipe: Recipe, steps: int) -> "Learner":
        """A learner before its first step.

        Args:
            network: on the device where it shall be trained.
            objective: as for the attribute; it is moved there.
            recipe: optimizer, rates, schedule, precision, ema.
            steps: how many there will be at most.
        """
        device = next(network.parameters()).device
        objective.to(device)
        trunk = [*network.trunk.parameters(), *network.pool.parameters()]
        for parameter in trunk:
            parameter.requires_grad_(recipe.trunk_rate > 0)
        new = [*network.head.parameters(), *network.neck.parameters(), *objective.parameters()]
        groups = [
            {"params": [parameter for parameter in parameters if parameter.requires_grad], "lr": rate}
            for parameters, rate in ((trunk, recipe.learning_rate * recipe.trunk_rate), (new, recipe.learning_rate))
        ]
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        precision = precision_on(device, recipe.precision)
        return cls(
            network=network,
            objective=objective,
            precision=precision,
            optimizer=optimizer,
            schedule=LambdaLR(optimizer, lambda step: rate_at(step, steps, recipe)),
            scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
            frozen="trunk" if not recipe.trunk_rate else "norms" if recipe.freeze_norms else "nothing",
            average=_average_of(network, recipe.ema) if recipe.ema else None,
        )

    @property
    def result(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        return cast(Network, self.average.module) if self.average else self.network

    def train(self) -> None:
        """Puts the network into training mode; a frozen trunk, or one with frozen norms, keeps its running means."""
        self.network.train()
        if self.frozen == "trunk":
            self.network.trunk.eval()
        for module in self.network.trunk.modules():
            if self.frozen == "norms" and isinstance(module, NORMS):
                module.eval()

    def learn(self, inputs: Tensor, labels: Labels) -> dict[str, float]:
        """One step down the gradient of the loss.

        Args:
            inputs: photographs (B, 3, S, S) uint8, or a frozen trunk's features of them (B, F) float32.
            labels: of the batch, on the inputs' device.

        Returns:
            The loss, and what the objective logs.
        """
        device = inputs.device.type
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            vectors = self.network.head(self.network.look(inputs) if inputs.ndim == 4 else inputs)
        loss, figures = self.objective(self.network, vectors.float(), labels)
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


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """What the learning rate is multiplied with: a straight rise, then constant or half a cosine down to zero."""
    rise = round(recipe.warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - rise) / max(1, steps - rise))))


def _average_of(network: Network, decay: float) -> AveragedModel:
    """An average that starts as a copy; running means and variances are averaged with the weights."""
    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
