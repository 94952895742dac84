"""The training of one network: steps, epochs, validation, checkpoints."""

import logging
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from reid.config.recipe import Recipe
from reid.decision.artifact import CLASSIFIER, RUN_FOLDER
from reid.errors import InputError, Stopped
from reid.models.networks import best_device
from reid.models.new_networks import save_network
from reid.runtime.distributed import all_gather_object, any_rank, barrier, is_main, world_size
from reid.runtime.progress import bar
from reid.runtime.signals import StopRequest
from reid.training.checkpoints import Checkpoint
from reid.training.history import History, StepTimer, TensorBoardLog
from reid.training.objective import Labels
from reid.training.run_folder import HISTORY
from reid.training.state import TrainState
from reid.training.tasks import RunContext, TrainingTask
from reid.training.validation import describe_collapse

__all__ = ["train_network"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Training:
    """One network's training under way."""

    task: TrainingTask
    state: TrainState
    history: History
    checkpoint: Checkpoint
    timer: StepTimer

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether the epoch limit or the wanted validation accuracy is reached."""
        return len(self.history.epochs) >= self.task.epochs or self.history.is_reached(recipe.training.stop_accuracy)

    def save(self) -> None:
        """Write a checkpoint."""
        self.checkpoint.save({"train_state": self.state.state(), "history": self.history.state()})


def train_network(task: TrainingTask, run: RunContext) -> None:
    """Train until the validation accuracy or the epoch limit is reached, then write the network's file.

    A training that was interrupted is resumed from its checkpoint.

    Raises:
        InputError: a checkpoint that can't be used, a disk that is full, more ranks than photographs in a batch.
        Stopped: a signal came; the state after the step is saved.
    """
    _refuse_many_ranks(task)
    training = _start_or_resume(task, run)
    history, folder = training.history, run.folder / RUN_FOLDER
    board = TensorBoardLog(folder / "tensorboard" / task.name, len(history.epochs), writes=is_main())
    with run.options.stop.defer(), closing(board):
        while not training.is_finished(run.recipe):
            _train_epoch(training, run.options.stop)
            _end_epoch(training, run.recipe)
            if is_main():
                history.write(folder / f"{task.name}{HISTORY}")
                board.add(history.epochs[-1])
        if is_main():
            save_network(run.folder / task.file, training.state.network)
            training.checkpoint.remove()
        barrier()  # until the file is there
        log.info(f"{task.name}: {history.ending(run.recipe)}")


def _refuse_many_ranks(task: TrainingTask) -> None:
    """Refuse more ranks than there are rows in the smallest batch: each needs one."""
    if world_size() == 1:
        return
    smallest = min(len(batch.places) for batch in task.sampler)
    if smallest < world_size():
        field = "classifier.batch_size" if task.file == CLASSIFIER else "batches.individuals"
        raise InputError(
            f"{world_size()} ranks: expected no more than there are photographs in a batch, found a batch of "
            f"{smallest} for {task.name}; start fewer, or --set {field} higher"
        )


def _start_or_resume(task: TrainingTask, run: RunContext) -> _Training:
    steps = task.epochs * len(task.sampler)
    network = task.start().to(best_device())
    state = TrainState.start(network, task.objective, run.recipe, steps, task.sampler.seed, run.options.runtime)
    history = History()
    path = run.folder / RUN_FOLDER / f"{task.name}.checkpoint.pt"
    checkpoint = Checkpoint(path, run.record, run.options.save_every)
    if saved := checkpoint.load():
        state.restore(saved["train_state"])
        history = History(**saved["history"])
        log.info(f"{task.name}: resuming after {history.position}")
    if len(set(all_gather_object(history.position))) > 1:
        raise InputError(f"{path}: ranks see different checkpoints; the folder must be the same on all machines")
    return _Training(task, state, history, checkpoint, StepTimer(task.name, task.epochs, len(task.sampler)))


def _train_epoch(training: _Training, stop: StopRequest) -> None:
    """Train from where the history is to the end of its epoch.

    Raises:
        Stopped: a signal came; the state after the step is saved.
    """
    task, state, history, timer = training.task, training.state, training.history, training.timer
    state.train()
    device = next(state.network.parameters()).device
    labels = Labels(*(each.to(device) for each in task.labels))
    task.sampler.epoch = len(history.epochs)
    if not history.steps:
        history.rate = float(state.schedule.get_last_lr()[-1])
    batches = task.inputs.draw(islice(task.sampler, len(history.steps), None), device)
    timer.start()
    left = len(task.sampler) - len(history.steps)
    for inputs, places in bar(batches, f"training {task.name} epoch {len(history.epochs) + 1}", left):
        figures = state.learn(inputs, labels.at(places))
        history.add(figures, len(places), timer.tick())
        timer.log_line(history)
        _save_or_stop(training, stop)


def _save_or_stop(training: _Training, stop: StopRequest) -> None:
    """Save where it is time to, and stop all ranks after the same step where one was asked to."""
    is_end = any_rank(bool(stop.requested))
    if is_main() and (is_end or training.checkpoint.is_due):
        training.save()
    if is_end:
        barrier()
        by = stop.requested or "a signal to another rank"
        raise Stopped(f"stopped by {by} in {training.task.name}, saved", stop.requested)


def _end_epoch(training: _Training, recipe: Recipe) -> None:
    """Close the epoch, and validate where it is time to."""
    task, history = training.task, training.history
    history.end_epoch()
    row = history.epochs[-1]
    if row["epoch"] % task.validate_every and row["epoch"] < task.epochs:
        return
    row |= task.validate(training.state.network)._asdict()
    log.info(history.line(task.name, task.epochs))
    if collapse := describe_collapse(history.epochs, recipe):
        log.warning(f"{task.name}: {collapse}")
