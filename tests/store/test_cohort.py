"""The demo store: drawn once, told apart by what it was drawn from."""

import shutil
from pathlib import Path

import pytest

from tissueseg.store.demo import CLASSES, PANEL, DemoParameters
from tissueseg.store.demo.cohort import demo_store
from tissueseg.store.tissues import TissueStore

SMALL = DemoParameters(tissues=2, size_px=64)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_store(SMALL, cache=tmp_path_factory.mktemp("cache"))


def times(path: Path) -> dict[str, int]:
    files = (p for p in sorted(path.rglob("*")) if p.is_file())
    return {str(p.relative_to(path)): p.stat().st_mtime_ns for p in files}


def test_a_store_of_the_parameters(drawn: Path) -> None:
    store = TissueStore(drawn)
    assert store.tissues == ("demo_000", "demo_001")
    assert (store.mpp, store.classes, store.panel) == (SMALL.mpp, CLASSES, PANEL)
    assert {store.entry(t)[2:4] for t in store.tissues} == {(64, 64)}
    assert [store.entry(t).patient for t in store.tissues] == ["demo_000", "demo_001"]
    assert [p.name for p in drawn.parent.iterdir()] == [drawn.name]


def test_it_is_drawn_once(drawn: Path) -> None:
    before = times(drawn)
    assert before
    assert demo_store(SMALL, cache=drawn.parent, track=pytest.fail) == drawn
    assert times(drawn) == before


def test_other_parameters_are_another_store(tmp_path: Path) -> None:
    paths = [
        demo_store(DemoParameters(**{"tissues": 1, "size_px": 64} | changed), cache=tmp_path)
        for changed in ({}, {"seed": 1}, {"mpp": 0.25}, {"size_px": 72}, {"tissues": 2})
    ]
    assert len(set(paths)) == 5
    assert [len(TissueStore(path).tissues) for path in paths] == [1, 1, 1, 1, 2]


def test_progress_is_shown_per_tissue(tmp_path: Path) -> None:
    seen = []
    demo_store(SMALL, tmp_path, track=lambda numbers: (seen.append(i) or i for i in numbers))
    assert seen == [0, 1]


def test_the_cache_may_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSUESEG_CACHE", str(tmp_path / "mine"))
    assert demo_store(SMALL).parent == tmp_path / "mine"


def old_schema(path: Path) -> None:
    root = path / "zarr.json"
    root.write_text(root.read_text().replace('"schema": 1', '"schema": 0'))


def no_root(path: Path) -> None:
    (path / "zarr.json").unlink()


def broken_root(path: Path) -> None:
    (path / "zarr.json").write_text('{"half')


@pytest.mark.parametrize("damage", [old_schema, no_root, broken_root])
def test_a_damaged_store_is_drawn_again(drawn: Path, tmp_path: Path, damage) -> None:
    path = tmp_path / drawn.name
    shutil.copytree(drawn, path)
    damage(path)
    assert demo_store(SMALL, cache=tmp_path) == path
    assert TissueStore(path).tissues == ("demo_000", "demo_001")
    assert [p.name for p in tmp_path.iterdir()] == [drawn.name]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(numbers):
        yield next(iter(numbers))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_store(SMALL, tmp_path, track=interrupted)
    assert not list(tmp_path.iterdir())
