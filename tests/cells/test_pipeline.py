"""Cells of a tissue are the same in whatever blocks and by however many workers they are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np
import pytest

from tissueseg.errors import TissueDataError
from tissueseg.instances.maps import Maps

from .conftest import Find, Found


@pytest.mark.parametrize("region", [64, 128, 200])
def test_blocks_of_any_size_find_and_measure_the_same_cells(
    find: Find, whole: Found, region: int
) -> None:
    found = find(region)
    assert found.counts.cells == whole.counts.cells
    assert not found.counts.cut
    assert {"od_eosin", "median_CD3", "ring_mean_DAPI", "ring_median_CD3"} <= set(
        whole.parts[0].columns
    )
    ids = found.column("id")
    np.testing.assert_array_equal(ids, np.arange(1, found.counts.cells + 1))
    pairs = np.unique(np.stack([found.labels.ravel(), whole.labels.ravel()], 1), axis=0)
    assert len(pairs) == whole.counts.cells + 1  # the same pixels, up to ids
    order = np.argsort(pairs[1:, 1])
    for name, values in whole.parts[0].columns.items():
        if name != "id":
            assert_alike(found.column(name)[order], values, name)
    embedding = np.concatenate(
        [part.embedding for part in found.parts if part.embedding is not None]
    )
    np.testing.assert_allclose(embedding[order], whole.parts[0].embedding, rtol=1e-5)


def assert_alike(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Equal, but for the last digit of sums that began elsewhere."""
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12, err_msg=name)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_what_is_found_is_what_was_there(whole: Found, truth: np.ndarray) -> None:
    missed = len(np.unique(truth)) - 1 - whole.counts.cells
    assert abs(missed) <= 0.01 * whole.counts.cells
    inside = (whole.labels > 0) & (truth > 0)
    even = truth[inside] % 2 == 0
    types = np.concatenate([[0], whole.column("type")])[whole.labels[inside]]
    assert (even == (types == 1)).mean() > 0.99


class Late(Executor):
    """Does nothing before its result is asked for, and counts what waits."""

    def __init__(self) -> None:
        self.waiting = self.most = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return Asked(self, partial(fn, *args, **kwargs))


class Asked(Future[Any]):
    def __init__(self, pool: Late, job: Callable[[], Any]) -> None:
        super().__init__()
        self._pool, self._job = pool, job

    def result(self, timeout: float | None = None) -> Any:
        self._pool.waiting -= 1
        return self._job()


@pytest.mark.parametrize("workers", [2, 3])
def test_few_blocks_are_under_way_at_a_time(find: Find, whole: Found, workers: int) -> None:
    pool = Late()
    found = find(64, workers, make_pool=lambda count: pool)
    assert found.counts.cells == whole.counts.cells
    assert pool.waiting == 0
    assert 3 * workers <= pool.most <= 3 * workers + 1  # one is begun, then one is waited for


@pytest.mark.slow
def test_workers_change_nothing(find: Find) -> None:
    alone, helped = find(128, workers=0), find(128, workers=2)
    np.testing.assert_array_equal(helped.labels, alone.labels)
    for name in alone.parts[0].columns:
        np.testing.assert_array_equal(helped.column(name), alone.column(name), err_msg=name)


def test_maps_are_removed_once_they_are_used_up(find: Find) -> None:
    assert find(64).files == 6  # of six rows of as many regions, the last


class Ends:
    """Ends its process, as the kernel does for want of memory."""

    needs = ()

    def reach_px(self, mpp: float) -> int:
        return 1

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        os._exit(9)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_said_in_one_line(find: Find) -> None:
    with pytest.raises(TissueDataError, match="a worker process was ended from outside"):
        find(128, workers=1, decoder=Ends())
