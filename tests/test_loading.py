"""Batches of photographs: in order, whatever is broken among them, and kept on disk for a training."""

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scene import scene, write_rows
from torch import Tensor

from reid.config.presets import PRESETS
from reid.config.recipe import AugmentationConfig
from reid.config.runtime import Runtime
from reid.config.settings import with_settings
from reid.data.catalogue import read_rows
from reid.data.loading import photograph_batches
from reid.data.photographs import UnreadableError, View, open_photograph
from reid.data.sampling import Batch
from reid.data.store import PhotographStore, decode_photographs, temporary_folder, training_batches
from reid.errors import InputError

PAIRS = Runtime(batch_size=2)
SMALL = np.asarray(scene().resize((32, 32))).transpose(2, 0, 1)


def test_batches_keep_the_order_and_stand_in_for_broken_files(tmp_path: Path) -> None:
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(paths[-1])
    paths[2].write_bytes(b"")
    batches = list(photograph_batches(paths, [View(16)] * len(paths), PAIRS, "testing"))
    pixels = torch.cat([batch.pixels for batch in batches])
    problems = [problem for batch in batches for problem in batch.problems]
    assert pixels[:, 0, 0, 0].tolist() == [0, 40, 128, 120, 160]
    assert [bool(problem) for problem in problems] == [False, False, True, False, False]


def test_an_extractor_gets_the_same_upright_photograph(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        scene(150 + number, 100).save(path)
    paths[1].write_bytes(b"")
    views = [View(16, turn=90, detail=120)] * 4
    batches = photograph_batches(paths, views, PAIRS, "testing", [np.array, np.array, np.array, None])
    extracted = [pixels for batch in batches for pixels in batch.extracted]
    assert [pixels is None for pixels in extracted] == [False, True, False, True]
    for number in (0, 2):
        assert np.array_equal(extracted[number], np.asarray(scene(150 + number, 100).rotate(90, expand=True)))


def test_with_a_gpu_the_next_batch_is_opened_while_one_is_in_use(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((patterns / "images").rglob("*.jpg"))[:5]
    expected = torch.cat([batch.pixels for batch in photograph_batches(paths, [View(16)] * 5, PAIRS, "testing")])
    open_any, third, count = Image.open, threading.Event(), itertools.count(1)

    def opening(*some: Any, **named: Any) -> Image.Image:
        if next(count) >= 3:
            third.set()
        return open_any(*some, **named)

    monkeypatch.setattr(Image, "open", opening)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "pin_memory", lambda pixels: pixels)  # there is no GPU to pin it for
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    batches = photograph_batches(paths, [View(16)] * 5, PAIRS, "testing")
    first = next(batches)
    assert third.wait(60)
    assert threads == [1]  # of several threads of torch, each would wait for a core
    assert torch.equal(torch.cat([first.pixels, *(batch.pixels for batch in batches)]), expected)
    assert threads == [1, 3]


def test_without_a_gpu_no_batch_is_opened_before_it_is_asked_for(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor it would only take cores from the network."""
    paths = sorted((patterns / "images").rglob("*.jpg"))[:5]
    open_any, opened = Image.open, itertools.count()
    monkeypatch.setattr(Image, "open", lambda *some, **named: (next(opened), open_any(*some, **named))[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for count, batch in enumerate(photograph_batches(paths, [View(16)] * 5, PAIRS, "testing"), start=1):
        assert len(batch.problems) == min(2, 5 - 2 * (count - 1))
        assert next(opened) == min(2 * count, 5) + count - 1  # itself counts too


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])  # neither macOS nor Windows has it
def test_decoded_photographs_are_kept_as_they_were_opened_and_broken_ones_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    for number in range(5):
        scene(50 + number, 40).save(tmp_path / f"{number}.jpg")
    (tmp_path / "3.jpg").write_bytes(b"")
    write_rows(tmp_path, 5)
    recipe = with_settings(PRESETS["toy"], {"backbone.image_size": 16})
    catalogue = read_rows(tmp_path)
    with temporary_folder() as folder:
        store = decode_photographs(catalogue, recipe, Path(folder), PAIRS)
        assert [bool(problem) for problem in store.problems] == [False, False, False, True, False]
        (batch, rest) = store.batches(np.array([4, 0, 2]), batch_size=2)
        for pixels, place in zip([*batch, *rest], [4, 0, 2], strict=True):
            assert (pixels.numpy().transpose(1, 2, 0) == open_photograph(catalogue.paths[place], 16)).all()
    assert not Path(folder).exists()


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])
def test_the_store_reserves_its_space_on_the_disk_before_it_is_filled(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    open_any, folder, reserved = Image.open, tmp_path / "store", []

    def watched(*some: Any, **named: Any) -> Image.Image:
        (file,) = folder.iterdir()
        reserved.append((file.stat().st_blocks * 512, file.stat().st_size))
        return open_any(*some, **named)

    folder.mkdir()
    monkeypatch.setattr(Image, "open", watched)
    catalogue = read_rows(patterns)
    decode_photographs(catalogue, with_settings(PRESETS["toy"], {"backbone.image_size": 128}), folder)
    assert len(reserved) == len(catalogue)
    on_disk, size = reserved[0]
    assert on_disk >= size > len(catalogue) * 3 * 128**2


@pytest.mark.parametrize("missing", [None, "posix_fallocate"])
def test_decoding_onto_a_full_disk_is_an_error_in_words(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing:
        monkeypatch.delattr(os, missing, raising=False)
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("only root can mount a disk of 64 kB, and not on every machine")
    recipe = with_settings(PRESETS["toy"], {"backbone.image_size": 32})
    try:
        with pytest.raises(InputError, match=r"don't fit there \(No space left on device\); name a larger disk"):
            decode_photographs(read_rows(patterns), recipe, disk)
    finally:
        os.system(f"umount {disk}")


def test_the_seed_of_a_batch_decides_its_augmentation(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.tile(SMALL, (6, 1, 1, 1)))
    store = PhotographStore(tmp_path / "x.npy", ("",) * 6)
    draws = [Batch(np.array([0, 3]), seed=1), Batch(np.array([0, 3]), seed=1), Batch(np.array([0, 3]), seed=2)]
    batches = training_batches(store, AugmentationConfig(), draws, torch.device("cpu"))
    (first, places), (again, _), (other, _) = batches
    assert places.tolist() == [0, 3]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (2, 3, 32, 32)
    assert first.dtype == torch.uint8


def test_batches_are_read_one_ahead_in_order_and_a_failure_is_raised(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.tile(SMALL, (4, 1, 1, 1)))
    store, drawn = PhotographStore(tmp_path / "x.npy", ("",) * 4), []

    def draws() -> Iterator[Batch]:
        for number in range(4):
            drawn.append(number)
            yield Batch(np.array([number]), seed=number)
        raise UnreadableError("the disk is gone")

    yielded: list[int] = []
    with pytest.raises(UnreadableError, match="the disk is gone"):
        for _, places in training_batches(store, AugmentationConfig(kinds=()), draws(), torch.device("cpu")):
            yielded += places.tolist()
            assert len(drawn) <= yielded[-1] + 2  # at most the next one is in memory as well
    assert yielded == drawn == [0, 1, 2, 3]
