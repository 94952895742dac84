"""Datasets whose known photographs tell nobody apart: all their queries are called new.

Each function returns the cause and what helps, as a sentence goes on; "" where somebody may be told apart.
"""

import numpy as np
import torch

from reid.data.catalogue import Catalogue
from reid.data.photographs import UnreadableError, View, open_photograph, thumbnails
from reid.retrieval.gallery import Gallery

__all__ = ["leave_out_unmatchable", "why_gallery_unmatchable", "why_unmatchable"]

FEW = 64
"""Photographs that are compared first: where some of these differ, the others need not be opened."""

COPY = 0.995
"""From which correlation of 16 x 16 grey values two photographs are one picture. A fixed camera's pictures of two
animals may reach 0.95, which makes them too alike to test each other (`pseudo_queries.DUPLICATE`), but not the same."""

SINGLE = "there is only one known photograph; add others"


def leave_out_unmatchable(catalogue: Catalogue) -> tuple[Catalogue, dict[str, str]]:
    """Return the photographs without the datasets that `why_unmatchable` has a cause for, and their causes by dataset;
    everything where nothing would be left."""
    datasets = catalogue.database.by_dataset()
    causes = {dataset: cause for dataset, known in datasets.items() if (cause := why_unmatchable(known))}
    if len(causes) == len(datasets):
        return catalogue, {}
    return catalogue.without([image_id for dataset in causes for image_id in catalogue.of(dataset).image_ids]), causes


def why_unmatchable(photographs: Catalogue) -> str:
    """Return why one dataset's known photographs tell nobody apart, before any feature of them is computed."""
    if len(photographs) == 1:
        return SINGLE
    return _alike(len(photographs)) if _have_one_colour(photographs) or _are_copies(photographs) else ""


def why_gallery_unmatchable(gallery: Gallery) -> str:
    """Return why a gallery tells nobody apart; mirror images do not count."""
    image_ids = np.array(gallery.embeddings.image_id, str)
    known = gallery.embeddings.of(np.unique(image_ids, return_index=True)[1])
    if len(known) < 2:
        return SINGLE if len(known) else "no known photograph can be read; replace the files"
    features = known.every_keypoints
    if not known.vectors.shape[1] and not any(len(keypoints) for own in features for keypoints in own):
        return f"no keypoint was found on any of the {len(known)} known photographs; add sharper or larger ones"
    same_vectors = torch.equal(known.vectors, known.vectors[:1].expand_as(known.vectors))
    same_keypoints = all(np.array_equal(one.descriptors, own[0].descriptors) for own in features for one in own)
    return _alike(len(known)) if same_vectors and same_keypoints else ""


def _alike(count: int) -> str:
    return f"all {count} known photographs are alike; add others"


def _have_one_colour(photographs: Catalogue) -> bool:
    opened = zip(photographs.paths, photographs.crops, strict=True)
    try:
        return not any(np.ptp(open_photograph(path, View(16, crop=crop)), axis=(0, 1)).any() for path, crop in opened)
    except UnreadableError:
        return False


def _are_copies(photographs: Catalogue) -> bool:
    """Return whether all photographs are the first one, but for size and compression."""
    for some in (photographs.table[:FEW], photographs.table):
        grey = thumbnails(Catalogue(photographs.root, some))
        if (grey @ grey[0] < COPY).any():
            return False
    return True
