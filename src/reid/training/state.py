"""A network while it is trained: everything that has a state, one step at a time."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from reid.config.recipe import Recipe
from reid.config.runtime import Runtime
from reid.models.networks import Network
from reid.retrieval.embedding import precision_on
from reid.runtime.distributed import all_gather_rows, rank, world_size
from reid.training.objective import Labels
from reid.training.synchronised import NORMS, synchronise_batch_norms

__all__ = ["TrainState", "rate_at"]


class LossModule(nn.Module):
    """From a rank's share of a batch to the loss of the whole batch.

    Backbone and head are computed in `precision`, the loss in float32.
    """

    def __init__(self, network: Network, objective: nn.Module, precision: torch.dtype) -> None:
        """
        Args:
            network: shares its weights with the one that is saved.
            objective: as for `TrainState`.
            precision: the number format.
        """
        super().__init__()
        self.network, self.objective, self.precision = network, objective, precision

    def forward(self, inputs: Tensor, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """See `TrainState.learn`."""
        with torch.autocast(inputs.device.type, self.precision, enabled=self.precision != torch.float32):
            vectors = self.network.head(self.network.pooled_features(inputs) if inputs.ndim == 4 else inputs)
        loss: tuple[Tensor, dict[str, float]] = self.objective(
            self.network, all_gather_rows(vectors.float(), len(labels.target)), labels
        )
        return loss


@dataclass
class TrainState:
    """Network, loss, optimizer and all that changes with a step.

    Attributes:
        network: its weights are float32 in any precision.
        objective: (network, vectors, labels) -> the loss and figures to log; its weights are trained too.
        loss_module: computes the loss through both; over several ranks it averages their gradients.
        optimizer: of the weights that are trained.
        schedule: counts steps.
        scaler: keeps float16's gradients from vanishing; does nothing in another precision.
        frozen: "backbone", its "norms", or "nothing": what stays in evaluation mode.
        seed: of dropout and other random numbers inside the network.
    """

    network: Network
    objective: nn.Module
    loss_module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    frozen: str
    seed: int = 0

    @classmethod
    def start(
        cls,
        network: Network,
        objective: nn.Module,
        recipe: Recipe,
        steps: int,
        seed: int = 0,
        runtime: Runtime = Runtime(),
    ) -> "TrainState":
        """Return the state before the first step.

        Args:
            network: on the device where it is to be trained.
            objective: as for the attribute; it is moved there.
            recipe: optimizer, rates, schedule, what is frozen.
            steps: how many there will be at most.
            seed: as for the attribute.
            runtime: the precision.
        """
        device = next(network.parameters()).device
        precision = precision_on(device, runtime.precision)
        optimizer = _optimizer(network, objective.to(device), recipe)
        frozen = "norms" if recipe.backbone.freeze_norms else "nothing"
        return cls(
            network=network,
            objective=objective,
            loss_module=_on_all_ranks(LossModule(synchronise_batch_norms(network), objective, precision), recipe),
            optimizer=optimizer,
            schedule=LambdaLR(optimizer, lambda step: rate_at(step, steps, recipe)),
            scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
            frozen=frozen if recipe.training.backbone_rate else "backbone",
            seed=seed,
        )

    def train(self) -> None:
        """Put the network into training mode; frozen norms keep their running means, like all of a frozen backbone."""
        (trained,) = (module for module in self.loss_module.modules() if isinstance(module, Network))
        trained.train()
        if self.frozen == "backbone":
            trained.backbone.eval()
        for module in trained.backbone.modules():
            if self.frozen == "norms" and isinstance(module, (*NORMS, nn.SyncBatchNorm)):
                module.eval()

    def learn(self, inputs: Tensor, labels: Labels) -> dict[str, float]:
        """Take one step down the gradient of the loss.

        Args:
            inputs: this rank's share of the batch: photographs (b, 3, S, S) uint8, or a frozen backbone's features of
                them (b, F) float32.
            labels: of the whole batch, (B,), on the inputs' device.

        Returns:
            The loss of the whole batch, and what the objective logs.
        """
        # a seed for every step, so that a resumed run needs no state of the generators, on whatever device
        entropy = [self.seed, self.schedule.last_epoch, rank()]
        torch.manual_seed(int(np.random.default_rng(entropy).integers(2**63)))
        loss, figures = self.loss_module(inputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return {"loss": float(loss.detach()), **figures}

    def state(self) -> dict[str, Any]:
        """Return everything that is needed to resume."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }


def _optimizer(network: Network, objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of two groups of weights, each with its rate: the backbone's, and all that is new."""
    training = recipe.training
    backbone = [*network.backbone.parameters(), *network.pool.parameters()]
    for parameter in backbone:
        parameter.requires_grad_(training.backbone_rate > 0)
    new = [*network.head.parameters(), *network.neck.parameters(), *objective.parameters()]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.requires_grad], "lr": rate}
        for parameters, rate in (
            (backbone, training.learning_rate * training.backbone_rate),
            (new, training.learning_rate),
        )
    ]
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=training.learning_rate, weight_decay=training.weight_decay)


def _on_all_ranks(loss_module: LossModule, recipe: Recipe) -> nn.Module:
    """Return the module with its gradients averaged over the ranks, where there are several."""
    if world_size() == 1 or not any(parameter.requires_grad for parameter in loss_module.parameters()):
        return loss_module
    # the neck's weights are the only ones that a recipe can leave without a gradient
    may_lack_gradients = (
        recipe.head.neck != "none" and recipe.loss.triplet_before_neck and recipe.loss.classification == "none"
    )
    return DistributedDataParallel(loss_module, find_unused_parameters=may_lack_gradients)


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """Return the factor of the learning rate: a straight rise, then constant or half a cosine down to zero."""
    warmup_steps = round(recipe.training.warmup * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if recipe.training.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup_steps) / max(1, steps - warmup_steps))))
