"""A whole store: healthy ones are silent, every array is read once, rows say what was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import zarr

from tissueseg.inspection import pixels as inspected
from tissueseg.inspection.summary import summary_rows
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.tissues import TissueStore

from .conftest import Write, inspect, mirrored


def healthy(write: Write, drawn: tuple[Tissue, ...]) -> TissueStore:
    """Classes merged to one, which every patient has."""
    cells = [t._replace(classes=(t.instances > 0).astype(np.uint8)) for t in drawn]
    classes = write({"x": drawn[0]}).classes[:2]
    return write(dict(zip("abc", cells, strict=True)), classes=classes)


def test_a_healthy_store_is_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    assert inspect(healthy(write, drawn)).findings == ()


def test_warnings_come_first(write: Write, drawn: tuple[Tissue, ...]) -> None:
    assert drawn[0].he is not None
    dark = [t._replace(he=t.he // 9, patient=None) for t in drawn]  # pyright: ignore[reportOptionalOperand]
    found = inspect(write(dict(zip("abc", dark, strict=True)))).findings
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=("warning", "notice").index)
    (black,) = [f for f in found if f.check == "H&E"]
    assert black.says.startswith("nearly black H&E in tissues a, b, c")
    assert all("\n" not in finding.says for finding in found)


def test_warnings_of_every_kind_are_counted_for_the_tissues_they_name(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    """`a` and its copy share three planes and a patient on two sides; `b` has a channel cut off."""
    assert drawn[1].sp is not None
    cut = np.minimum(drawn[1].sp, 300)
    tissues = {
        "a": drawn[0]._replace(split="train"),
        "copy": drawn[0]._replace(split="test"),
        "b": drawn[1]._replace(sp=cut),
        "c": drawn[2],
    }
    table = [replace(c, name="cell") if c.id else c for c in write({"x": drawn[0]}).classes[:2]]
    cells = {n: t._replace(classes=(t.instances > 0).astype(np.uint8)) for n, t in tissues.items()}
    store = write(cells, classes=table)
    found = inspect(store)
    named = {f.check: f.tissues for f in found.findings if f.level == "warning"}
    assert named == {"repeated tissue": ("a", "copy"), "split": ("a", "copy"), "saturation": ("b",)}
    saturated = sum(f.check == "saturation" for f in found.findings)
    assert found.warnings == Counter(a=2, copy=2, b=saturated)
    rows = {row["tissue"]: row["warnings"] for row in summary_rows(store, found)}
    assert rows == {"a": 2, "b": saturated, "c": 0, "copy": 2}


def spied(store: TissueStore, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Window]]:
    """What is read of a store from now on."""
    windows: list[tuple[str, Window]] = []
    read = store.read

    def spy(tissue: str, array: str, window: Window) -> np.ndarray:
        windows.append((array, window))
        return read(tissue, array, window)

    monkeypatch.setattr(store, "read", spy)
    return windows


def test_every_array_of_a_small_tissue_is_read_once(
    write: Write, drawn: tuple[Tissue, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write({"a": drawn[0]})
    read = spied(store, monkeypatch)
    inspect(store)
    whole = Window(0, 0, 256, 256)
    assert sorted(read) == [(array, whole) for array in ("he", CLASSES, INSTANCES, "sp")]


def test_of_a_slide_only_places_are_read_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = np.zeros((300, 4200), np.int32)
    instances[10:30, ::40], instances[10:30, 1::40] = 1, 1
    instances[10:30] *= np.arange(1, 4201, dtype=np.int32)[None] // 40 + 1
    classes = (instances > 0).astype(np.uint8)
    store = write({"a": Tissue(instances, classes, np.zeros((3, 300, 4200), np.uint8))})
    monkeypatch.setattr(inspected, "HELD_BYTES", 1000)
    windows = spied(store, monkeypatch)
    inspect(store)
    shards = Counter({Window(0, x, 300, min(2048, 4200 - x)): 1 for x in (0, 2048, 4096)})
    assert Counter(w for array, w in windows if array == CLASSES) == shards
    for array in ("he", INSTANCES):
        found = Counter(w for name, w in windows if name == array)
        again = found - shards
        assert all(found[window] == 1 for window in shards)
        assert max(w.width for w in again) <= 1024


def test_what_is_held_changes_nothing(
    write: Write, drawn: tuple[Tissue, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write({"a": mirrored(drawn[0])})
    wanted = summary_rows(store, inspect(store))
    monkeypatch.setattr(inspected, "HELD_BYTES", 0)
    assert summary_rows(store, inspect(store)) == wanted


@pytest.mark.parametrize(
    ("array", "said"), [("he", "he"), ("sp", "sp"), (INSTANCES, "instances"), (CLASSES, "classes")]
)
def test_a_lost_shard_is_a_warning(
    write: Write, drawn: tuple[Tissue, ...], array: str, said: str
) -> None:
    store = healthy(write, drawn)
    (shard,) = [p for p in (store.path / "b" / array / "0/c").rglob("*") if p.is_file()]
    shard.unlink()
    found = inspect(store)
    (altered,) = [f for f in found.findings if f.check == "pixels"]
    assert (altered.level, altered.tissues) == ("warning", ("b",))
    assert altered.says.startswith(f"pixels that differ from those prepared in tissue b: {said};")
    assert altered.says.endswith("prepare again")


def test_one_changed_pixel_is_a_warning(write: Write, drawn: tuple[Tissue, ...]) -> None:
    store = healthy(write, drawn)
    stored = zarr.open_array(store.path / "a/sp/0", mode="r+")
    stored[1, 255, 255] = int(np.asarray(stored[1, 255, 255])) + 1
    (altered,) = inspect(store).findings
    assert altered.says.startswith("pixels that differ from those prepared in tissue a: sp;")


def test_rows_say_what_was_found(write: Write, drawn: tuple[Tissue, ...]) -> None:
    nothing = 0 * drawn[2].instances
    empty = drawn[2]._replace(instances=nothing, classes=nothing, split="test")
    store = write({"a": drawn[0], "[b]": empty})
    rows = summary_rows(store, inspect(store))
    by_name = {row["tissue"]: row for row in rows}
    assert by_name["a"]["cells"] == len(np.unique(drawn[0].instances)) - 1
    assert by_name["a"]["cells"] == sum(
        v for k, v in by_name["a"].items() if k.startswith("cells_")
    )
    assert 5 < by_name["a"]["median_diameter"] < 9
    assert by_name["a"]["he_sp_shift"] < 0.2
    assert by_name["[b]"]["warnings"] == 1
    assert (by_name["[b]"]["split"], by_name["[b]"]["median_diameter"]) == ("test", None)
