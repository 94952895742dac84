"""Does it know the animal or the bush? What the score of a data folder rests on, part by part.

Each part asks the known photographs under some condition, or compares them with the queries, and says in a sentence
what it found. A part that can't be measured says why. `is_alarm` marks what a person should look into; how surprising
chance would have to be for that stands in `SURPRISING`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import binom

from reid.data.catalogue import Catalogue
from reid.decision.artifact import Weights, gallery_file
from reid.decision.calibrate import gallery_duplicates
from reid.decision.calibration import Calibration, load_calibrations
from reid.decision.decide import has_shifted
from reid.decision.matches import Matches
from reid.decision.metrics import score_submission
from reid.diagnose.conditions import GAPS, Answered, Condition, answer_known, any_photograph, days_apart
from reid.diagnose.parts import LEAST, SURPRISING, Part
from reid.diagnose.repainted import Repaint, answer_repainted, has_boxes, has_masks, silhouettes, without_animals
from reid.diagnose.sides import known_sides, matched_by, same_and_other_side

__all__ = ["Diagnosis", "diagnose"]

FALL = 0.2
"""How much rank-1 must fall with the gap in days before it is an alarm."""

SHUFFLES = 2000
"""Of the permutation test."""

MOST = 100
"""Pseudo-queries of a dataset and condition: each condition matches them anew."""


@dataclass(frozen=True)
class Diagnosis:
    """The parts of each dataset, in their order."""

    parts: dict[str, list[Part]]

    @property
    def alarms(self) -> list[tuple[str, Part]]:
        """Dataset and part of each alarm."""
        return [(name, part) for name, parts in self.parts.items() for part in parts if part.is_alarm]


def diagnose(
    catalogue: Catalogue, weights: Weights, matches: Matches | None, solution: pd.DataFrame | None, most: int = MOST
) -> Diagnosis:
    """Look into every dataset of the weights.

    Args:
        catalogue: the data folder that was enrolled.
        weights: with their galleries and thresholds.
        matches: the answers to its queries; None where it has none.
        solution: the true answers (see `metrics.read_solution`); None where they are not known.
        most: pseudo-queries of a dataset and condition.
    """
    calibrations = load_calibrations(weights)
    return Diagnosis(
        {name: _parts(catalogue, weights, name, calibrations[name], matches, solution, most) for name in calibrations}
    )


def _parts(
    catalogue: Catalogue,
    weights: Weights,
    dataset: str,
    calibration: Calibration,
    matches: Matches | None,
    solution: pd.DataFrame | None,
    most: int,
) -> list[Part]:
    known = catalogue.database.of(dataset)
    parts = [
        _expected(dataset, calibration, matches, solution),
        _bursts(catalogue, dataset, matches),
        known_sides(known),
    ]
    if calibration.unmatchable or known.table["identity"].nunique() < 2:
        why = calibration.unmatchable or "the dataset has fewer than two known individuals"
        return [*parts, Part("known photographs", f"Not measured: {why}.")]
    duplicates = gallery_duplicates(catalogue, weights.folder / gallery_file(dataset))
    asker = partial(answer_known, catalogue, weights.folder, dataset, weights.recipe, calibration, most)
    ask = partial(asker, duplicates)
    everything = ask(any_photograph)
    parts += [_chance(everything), _gaps(known, ask)]
    apart = np.arange(len(duplicates))  # near-duplicates with two sides are no leak here, but what is looked for
    parts += [same_and_other_side(known, partial(asker, apart)), matched_by(known, everything)]
    repainted = partial(answer_repainted, catalogue, weights, dataset, calibration, duplicates, most)
    return [*parts, _background(known, repainted), _silhouette(known, repainted)]


def _expected(dataset: str, calibration: Calibration, matches: Matches | None, solution: pd.DataFrame | None) -> Part:
    """Expected against live score, with what may lie behind the difference."""
    name, threshold = "expected and live score", calibration.threshold
    if threshold.score is None or threshold.interval is None:
        return Part(name, "Not measured: too few known individuals for an expected score.")
    low, high = threshold.interval
    expected = f"{threshold.score:.2f} ({low:.2f} to {high:.2f})"
    if matches is None or solution is None:
        return Part(name, f"Expected: {expected}. Without the true answers (--solution) nothing to compare with.")
    queries = matches.queries[matches.queries["column"] == dataset]
    truth = solution[solution["image_id"].isin(queries["image_id"])]
    if truth.empty:
        return Part(name, f"Expected: {expected}. The solution has no query of this dataset.")
    own = matches.submission[matches.submission["image_id"].isin(truth["image_id"])]
    live = score_submission(own, truth)[str(truth["dataset"].iloc[0])].score
    new = float(truth["new_identity"].astype(bool).mean())
    shift = matches.shifts.get(dataset, 0.0)
    rows = (
        ("score", expected, f"{live:.2f}"),
        ("photographs called new", f"{threshold.share_new:.0%}", f"{(own['identity'] == 'new_individual').mean():.0%}"),
        ("photographs of new animals", "", f"{new:.0%}"),
        ("distance from the calibrated dissimilarities", "0", f"{shift:.2f}"),
        (
            "known individuals asked",
            str(threshold.known),
            str(truth[~truth["new_identity"].astype(bool)]["identity"].nunique()),
        ),
    )
    reasons = []
    if has_shifted(shift, len(queries)):
        reasons.append("the queries match otherwise than the known photographs among themselves (distribution shift)")
    if threshold.known < 8 or threshold.new < 8:
        reasons.append("few individuals stand behind the expectation")
    if calibration.threshold.note:
        reasons.append("calibration had remarks: " + calibration.threshold.note.splitlines()[0])
    inside = low <= live <= high
    where = "in" if inside else "above" if live > high else "below"
    words = f"The live score of {live:.2f} lies {where} the expected range."
    if not inside and reasons:
        words += f" Possible reasons: {'; '.join(reasons)}."
    return Part(
        name,
        words,
        live < low and has_shifted(shift, len(queries)),
        ("", "expected", "live"),
        rows,
    )


def _bursts(catalogue: Catalogue, dataset: str, matches: Matches | None) -> Part:
    """Queries whose best candidate was photographed on the same day, against what chance brings: that photograph, or
    any of the individual."""
    name = "bursts across the split"
    if matches is None:
        return Part(name, "Not measured: there are no queries.")
    days = catalogue.table.set_index("image_id")["day"]
    known = catalogue.database.of(dataset).table
    best = matches.candidates[matches.candidates["rank"] == 1]
    own = matches.queries["image_id"][matches.queries["dataset"] == dataset]
    best = best[best["image_id"].isin(own) & (best["image_id"] != best["candidate_image_id"])]  # enrolled: themselves
    day, other = (days.reindex(best[column]).fillna("").to_numpy(str) for column in ("image_id", "candidate_image_id"))
    dated = (np.char.str_len(day) == 10) & (np.char.str_len(other) == 10)
    if dated.sum() < LEAST:
        return Part(name, "Not measured: hardly any query and candidate have a day.")
    day, other, who = day[dated], other[dated], best["candidate"].to_numpy(str)[dated]
    seen = set(zip(known["identity"], known["day"], strict=True))
    present = known.groupby("day")["identity"].nunique() / known["identity"].nunique()
    photographs = known["day"].value_counts(normalize=True)
    findings = [
        (int((day == other).sum()), photographs, "have a best candidate of the same day"),
        (
            sum(pair in seen for pair in zip(who, day, strict=True)),
            present,
            "have a best candidate whose individual was photographed that day",
        ),
    ]
    words, alarm = [], False
    for same, share, what in findings:
        chance = float(share.reindex(day).fillna(0).mean())
        luck = max(chance, 1 / len(day) ** 2)
        alarm |= same > 2 * chance * len(day) and bool(binom.sf(same - 1, len(day), luck) < SURPRISING / len(findings))
        words.append(f"{same} of {len(day)} queries ({same / len(day):.0%}) {what}; {chance:.0%} would by chance.")
    if alarm:
        words.append(
            "Photographs of one moment lie on both sides of the split: the score is that of finding them again, not of "
            "knowing the animal on another day."
        )
    return Part(name, " ".join(words), alarm)


def _chance(everything: Answered) -> Part:
    """Rank-1 among known photographs, against the individuals shuffled."""
    name = "against chance"
    if len(everything) < LEAST:
        asked = f"{len(everything)} known photographs have another of their individual to be compared with"
        return Part(name, f"Not measured: {asked}, fewer than {LEAST}.")
    rank1, chance, p = _shuffled(everything)
    words = (
        f"Rank-1 of {len(everything)} known photographs is {rank1:.2f}; with the animals' names shuffled it is "
        f"{chance:.2f}."
    )
    if p > 0.05:
        words += " Nothing shows that animals are told apart at all."
    return Part(name, words)


def _shuffled(answered: Answered) -> tuple[float, float, float]:
    """Return rank-1, its mean when the queries' individuals are shuffled, and how often that reaches it."""
    rng = np.random.default_rng(0)
    rank1 = float(answered.right.mean())
    draws = [float((rng.permutation(answered.individual) == answered.best).mean()) for _ in range(SHUFFLES)]
    return rank1, float(np.mean(draws)), (1 + sum(draw >= rank1 for draw in draws)) / (1 + SHUFFLES)


def _gaps(known: Catalogue, ask: Callable[[Condition], Answered]) -> Part:
    """Rank-1 and BAKS against the days between the photographs."""
    name = "gap in days"
    exact = known.table["day"][known.table["day"].str.len() == 10]
    if exact.nunique() < 2:
        found = "all known photographs with a day are of the same" if len(exact) else "no known photograph has a day"
        return Part(name, f"Not measured: {found}.")
    rows, asked = [], {}
    for first, last in GAPS:
        answered = ask(days_apart(first, last))
        asked[first] = answered
        label = str(first) if first == last else f"{first} to {last}" if last < 10**6 else f"{first} and more"
        few = len(answered) < LEAST
        rows.append(
            (label, len(answered), "" if few else f"{answered.rank1:.2f}", "" if few else f"{answered.baks:.2f}")
        )
    near = asked[0]
    far = [asked[first] for first, _ in GAPS[2:] if len(asked[first]) >= LEAST]
    words = "Rank-1 by the days between a photograph and those of its animal that it may be compared with."
    fallen = False
    if len(near) >= LEAST and far:
        later = Answered.joined(far)
        right, right_later = int(near.right.sum()), int(later.right.sum())
        fallen = near.right.mean() - later.right.mean() >= FALL and _differ(right, len(near), right_later, len(later))
        words += f" {near.rank1:.2f} on the same day, {later.rank1:.2f} after more than a week."
    if fallen:
        words += " Most of what is recognised is the day, not the animal."
    return Part(name, words, fallen, ("days apart", "photographs", "rank-1", "named rightly"), tuple(rows))


def _differ(right: int, count: int, other_right: int, other_count: int) -> bool:
    """Return whether two shares differ by more than chance brings in one of a thousand cases: two-proportion z."""
    pooled = (right + other_right) / (count + other_count)
    error = (pooled * (1 - pooled) * (1 / count + 1 / other_count)) ** 0.5
    return bool(error > 0 and (right / count - other_right / other_count) / error > 3.1)


def _background(known: Catalogue, ask: Callable[[Repaint], Answered]) -> Part:
    """Rank-1 of photographs on which the animal is painted over."""
    name = "background only"
    if not has_boxes(known):
        return Part(
            name, "Not measured: the known photographs have no boxes, so that the animal can't be painted over."
        )
    answered = ask(without_animals)
    if len(answered) < LEAST:
        return Part(name, "Not measured: too few photographs have anything left to compare beside the animal.")
    rank1, chance, p = _shuffled(answered)
    alarm = p < SURPRISING and rank1 > chance + 0.05
    words = (
        f"With the animal painted over, rank-1 of {len(answered)} known photographs is {rank1:.2f} ({chance:.2f} by "
        "chance)."
    )
    if alarm:
        words += " That much of the score is the place, not the animal."
    return Part(name, words, alarm)


def _silhouette(known: Catalogue, ask: Callable[[Repaint], Answered]) -> Part:
    """Rank-1 of the animals' outlines alone."""
    name = "silhouette only"
    if not has_masks(known):
        return Part(name, "Not measured: the known photographs have no masks, so that outlines can't be cut out.")
    answered = ask(silhouettes)
    if len(answered) < LEAST:
        return Part(name, "Not measured: too few outlines have anything on them to compare.")
    rank1, chance, p = _shuffled(answered)
    words = (
        f"With one colour for the animal and another for all else, rank-1 of {len(answered)} known photographs is "
        f"{rank1:.2f} ({chance:.2f} by chance): "
    )
    told = "so much the outline tells, which is the animal's form, its posture or how it was framed."
    return Part(name, words + (told if p < SURPRISING else "the outline tells nothing."))
