"""`python -m tissueseg.export`: what was asked for is there, or one line says why not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from stores import compose, random_tissue, write_store

from tissueseg.errors import ConfigError, TissueDataError, TissuesegError
from tissueseg.export import export
from tissueseg.store.tissues import TissueStore

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> TissueStore:
    return write_store(tmp_path / "s.zarr", {n: random_tissue(40, 48) for n in ("a", "b", "1")})


def run_here(store: TissueStore, out: Path, /, **changes: Any) -> None:
    """The command's job without the start of a process."""
    config = compose(name="export")
    given = {"store": {"path": str(store.path)}, "out": str(out)}
    export(OmegaConf.merge(config, given, changes))  # type: ignore[arg-type]


def test_command_writes_every_tissue_and_says_how_to_see_it(
    store: TissueStore, run_cli: Run, tmp_path: Path
) -> None:
    result = run_cli("export", "store.path=s.zarr", "out=made/out")
    assert (result.returncode, result.stderr) == (0, "")
    seen = "see one with `napari made/out/1.ome.zarr/he`"
    assert result.stdout == f"wrote tissues 1, a, b: {seen}\n"
    assert sorted(path.name for path in (tmp_path / "made/out").iterdir()) == [
        f"{tissue}.ome.zarr" for tissue in ("1", "a", "b")
    ]
    again = run_cli("export", "store.path=s.zarr", "out=made/out")
    assert again.returncode == 2
    assert again.stderr.startswith("error: made/out/1.ome.zarr exists already")
    assert len(again.stderr.splitlines()) == 1


def test_command_asks_for_what_is_missing(run_cli: Run) -> None:
    result = run_cli("export")
    assert result.returncode == 2
    assert result.stderr == "error: give out=…, store.path=… on the command line.\n"


def test_command_needs_neither_torch_nor_spatialdata() -> None:
    code = (
        "import sys, tissueseg.export; print({'torch', 'spatialdata', 'dask'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_missing_library_is_one_line(
    store: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ConfigError, match=r"pip install 'tissueseg\[spatial\]'") as caught:
        run_here(store, tmp_path / "out", format="spatialdata")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")  # spatialdata's libraries warn one another
def test_spatialdata_is_one_zarr(
    store: TissueStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sd = pytest.importorskip("spatialdata")
    run_here(store, tmp_path / "out", format="spatialdata", tissues=["b", "a"])
    path = tmp_path / "out/s.spatialdata.zarr"
    assert [p.name for p in (tmp_path / "out").iterdir()] == [path.name]
    assert sorted(sd.read_zarr(path).tables) == ["a_cells", "b_cells"]
    said = f"wrote tissues b, a: see them with `spatialdata.read_zarr({str(path)!r})`\n"
    assert capsys.readouterr().out == said


def test_only_the_tissues_asked_for(store: TissueStore, tmp_path: Path) -> None:
    run_here(store, tmp_path / "out", tissues=["b", "b"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.ome.zarr"]


def test_nothing_is_written_when_one_path_is_taken(store: TissueStore, tmp_path: Path) -> None:
    run_here(store, tmp_path / "out", tissues=["b"])
    with pytest.raises(TissueDataError, match=r"b\.ome\.zarr exists already"):
        run_here(store, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.ome.zarr"]
    run_here(store, tmp_path / "out", overwrite=True)
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "tiff"}, "format=tiff; choose from ngff, spatialdata"),
        ({"format": None}, "format=None; choose from"),
        ({"out": None}, "wanted two paths"),
        ({"store": {"path": 3}}, "wanted two paths"),
        ({"store": {"path": "none.zarr"}}, "no tissue store at none.zarr"),
        ({"overwrite": "maybe"}, "wanted true or false"),
        ({"tissues": "a"}, r"tissues=a: wanted names as in tissues=\[a,b\]"),
        ({"tissues": [1]}, r"tissues=\[1\]: wanted names .* in quotes"),
        ({"tissues": ["a", "x"]}, "holds tissues 1, a, b"),
        ({"tissues": []}, r"tissues=\[\]: .* tissues=null for all"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(
    change: dict[str, Any], said: str, store: TissueStore, tmp_path: Path
) -> None:
    with pytest.raises(TissuesegError, match=said) as caught:
        run_here(store, tmp_path / "out", **change)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_store_is_not_written_into(store: TissueStore) -> None:
    before = sorted(store.path.iterdir())
    for out in (store.path, store.path / "a"):
        with pytest.raises(ConfigError, match="lies in the store"):
            run_here(store, out)
    assert sorted(store.path.iterdir()) == before


def test_damaged_store_is_one_line(store: TissueStore, tmp_path: Path) -> None:
    (store.path / "b/labels/classes/0/zarr.json").unlink()
    with pytest.raises(TissuesegError, match=r"tissue b has no labels/classes"):
        run_here(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
