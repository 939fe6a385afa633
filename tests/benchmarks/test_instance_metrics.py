"""PQ and AJI from a contingency table, against loops over masks of pairs, in the same process.

`pytest -m benchmark tests/benchmarks/test_instance_metrics.py -s` prints the table. Two loops are the
baselines: one looks at every pair of instances, as the definitions read, and is timed on some true
nuclei only and scaled to all; the other looks at pairs that overlap, as published implementations do,
runs in full, and says what the scores must be.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.spatial import KDTree

from tissueseg.metrics.contingency import contingency
from tissueseg.metrics.detection import paired_centroids
from tissueseg.metrics.jaccard import jaccard_counts
from tissueseg.metrics.panoptic import panoptic_counts, pq

pytestmark = pytest.mark.benchmark

SIDE_PX, TRUE, FOUND = 700, 5686, 3300
EVERY_PAIR_ROWS = 1  # true nuclei that the loop over all pairs is timed on
TURNS = 3


class Quality(NamedTuple):
    pq: float
    aji: float


class Overlap(NamedTuple):
    found: int  # id
    both: int  # px
    union: int  # px

    @property
    def iou(self) -> float:
        return self.both / self.union


def make_images() -> tuple[np.ndarray, np.ndarray]:
    """Small crowded nuclei, and a prediction one pixel aside in which neighbours have merged."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(TRUE**0.5))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
    seeds = (grid[:TRUE] + 0.5 + rng.uniform(-0.25, 0.25, (TRUE, 2))) * SIDE_PX / side
    pixels = np.indices((SIDE_PX, SIDE_PX)).reshape(2, -1).T
    distance, nearest = KDTree(seeds).query(pixels)
    labels = np.where(distance < rng.uniform(4, 6, TRUE)[nearest], nearest + 1, 0)
    truth = labels.reshape(SIDE_PX, SIDE_PX).astype(np.int32)
    merged = np.arange(TRUE + 1)
    second = rng.permutation(np.arange(2, TRUE + 1, 2))[: TRUE - FOUND]
    merged[second] = second - 1
    return truth, np.roll(merged[truth], 1, axis=1).astype(np.int32)


def overlap(mask: np.ndarray, predicted: np.ndarray, found: int) -> Overlap:
    other = predicted == found
    return Overlap(found, int((mask & other).sum()), int((mask | other).sum()))


def by_overlapping_pairs(truth: np.ndarray, predicted: np.ndarray) -> Quality:
    """Masks of every true nucleus and of the predictions that it meets."""
    areas = dict(zip(*np.unique(predicted[predicted > 0], return_counts=True), strict=True))
    unused, hits, total_iou, part, whole = set(areas), 0, 0.0, 0, 0
    ids = np.unique(truth[truth > 0])
    for t in ids:
        mask = truth == t
        met = np.unique(predicted[mask])
        pairs = [overlap(mask, predicted, p) for p in met[met > 0]]
        if not pairs:
            whole += int(mask.sum())
            continue
        best = max(pairs, key=lambda pair: pair.iou)
        unused.discard(best.found)
        part, whole = part + best.both, whole + best.union
        if best.iou > 0.5:
            hits, total_iou = hits + 1, total_iou + best.iou
    whole += int(sum(areas[p] for p in unused))
    return Quality(
        total_iou / (hits + (len(areas) - hits) / 2 + (len(ids) - hits) / 2), part / whole
    )


def by_every_pair(truth: np.ndarray, predicted: np.ndarray) -> None:
    """Masks of some true nuclei and of every prediction."""
    found = np.unique(predicted[predicted > 0])
    for t in np.unique(truth[truth > 0])[:EVERY_PAIR_ROWS]:
        mask = truth == t
        for p in found:
            overlap(mask, predicted, p)


def by_table(truth: np.ndarray, predicted: np.ndarray) -> Quality:
    """What the package does, AJI+ besides."""
    table = contingency(truth, predicted)
    both, union, _, _ = jaccard_counts(table)
    return Quality(float(pq(panoptic_counts(table)[0])), both / union)


def timed(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work(*given)
    return time.perf_counter() - start, found


def test_pq_and_aji_of_crowded_nuclei() -> None:
    images = make_images()
    assert [len(np.unique(image)) - 1 for image in images] == [TRUE, FOUND]
    by_table(*images)  # code that the first call brings in
    taken: dict[str, list[float]] = {"table": [], "every pair": [], "overlapping pairs": []}
    for turn in range(TURNS):
        seconds, found = timed(by_table, *images)
        taken["table"].append(seconds)
        seconds, _ = timed(by_every_pair, *images)
        taken["every pair"].append(seconds * TRUE / EVERY_PAIR_ROWS)
        if turn == 0:
            seconds, expected = timed(by_overlapping_pairs, *images)
            taken["overlapping pairs"].append(seconds)
            assert found == pytest.approx(expected, abs=1e-9, rel=0)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    print(f"\n{TRUE} against {FOUND} nuclei, {SIDE_PX} × {SIDE_PX} px: {found}")
    for name, seconds in medians.items():
        print(f"{name:<20} {seconds:12.4f} s  {seconds / medians['table']:12,.0f} ×")
    assert medians["overlapping pairs"] >= 200 * medians["table"]


def test_a_million_centroids_are_matched() -> None:
    rng = np.random.default_rng(0)
    side = 1000
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 14.0
    truth = grid + rng.uniform(-4, 4, grid.shape)
    predicted = truth[rng.random(len(truth)) < 0.9] + rng.normal(0, 2, (1, 2))
    seconds, pairs = timed(paired_centroids, truth, predicted, 12.0)
    print(f"\n{len(truth):,} against {len(predicted):,} centroids, 12 px: {seconds:.2f} s")
    assert len(pairs.truth) >= 0.99 * len(predicted)
