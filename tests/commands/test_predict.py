"""`python -m tissueseg.predict`: the cells of whole tissues, complete or not there."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from feature_runs import error_line
from stained_runs import stained, stained_run
from stores import CLASSES, random_tissue, write_store

from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter
from tissueseg.tables.label_image import read_labels

Command = Callable[..., Any]

ALONE = ("workers=0", "preview=false")
FORMATS = "formats=[csv,parquet,geojson,geoparquet,anndata]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on H&E, trained on a store of its own, not to be changed."""
    return stained_run(tmp_path_factory.mktemp("trained"), "epochs=12")


@pytest.fixture
def predict(command: Command, run: Path, tmp_path: Path) -> Command:
    def predict(*overrides: str) -> Any:
        return command("predict", f"run={run}", f"out={tmp_path / 'out'}", *ALONE, *overrides)

    return predict


def ids(folder: Path) -> list[int]:
    with (folder / "cells.csv").open() as file:
        return [int(row["id"]) for row in csv.DictReader(file)]


def test_every_export_has_the_same_cells(predict: Command, tmp_path: Path) -> None:
    result = predict(FORMATS, "preview=true")
    assert result.code == 0, result.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a", "b", "c", "index.html"]
    folder = tmp_path / "out/a"
    found = ids(folder)
    assert len(found) > 5
    assert found == list(range(1, len(found) + 1))
    features = json.loads((folder / "cells.geojson").read_text())["features"]
    table = pq.read_table(folder / "cells.parquet")
    assert len(features) == len(table) == len(pq.read_table(folder / "cells.geo.parquet"))
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    assert cells.shape[0] == len(found)
    assert cells.obsm["spatial"].shape == (len(found), 2)
    assert cells.obsm["embedding"].shape == (len(found), 16)
    labels = np.asarray(read_labels(folder).instances[0])
    np.testing.assert_array_equal(np.unique(labels[labels > 0]), found)
    areas = np.bincount(labels.ravel())[1:]
    np.testing.assert_array_equal(areas, table["area_px"].to_numpy())
    stamp = json.loads((folder / "prediction.json").read_text())
    assert sum(kind["cells"] for kind in stamp["summary"]["cells"]["types"]) == len(found)
    assert {"index.html", "preview.png"} <= {path.name for path in folder.iterdir()}


def test_what_is_there_is_kept(predict: Command, tmp_path: Path) -> None:
    assert predict("tissues=[a]").code == 0
    before = (tmp_path / "out/a/cells.csv").stat().st_mtime_ns
    result = predict("tissues=[a,b]")
    assert (result.code, "1 of 2 tissues are there already" in result.out) == (0, True)
    assert (tmp_path / "out/a/cells.csv").stat().st_mtime_ns == before
    assert ids(tmp_path / "out/b")


def test_other_options_do_not_mix_with_what_is_there(predict: Command, tmp_path: Path) -> None:
    assert predict("tissues=[a]").code == 0
    line = error_line(predict("tissues=[a]", "views=8"))
    assert "made with another views" in line
    assert predict("tissues=[a]", "views=8", "overwrite=true").code == 0
    stamp = json.loads((tmp_path / "out/a/prediction.json").read_text())
    assert stamp["made_by"]["views"] == 8


DECIDING = {
    "instances=components": "instances",
    "overlap_px=0": "overlap_px",
    "types=majority": "types",
    "ring_um=3": "ring_um",
    "blend=core": "blend",
    "embedding=false": "embedding",
    "data.tile_px=64": "tile_px",
    "trainer.precision=bf16-mixed": "precision",
}


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of one tissue, not to be changed."""
    from tissueseg.command import run_command
    from tissueseg.predict import predict

    out = tmp_path_factory.mktemp("made") / "out"
    words = [f"run={run}", f"out={out}", "tissues=[a]", *ALONE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tissueseg.predict", *words, "overlap_px=16"])
        run_command("predict", predict)
    return out


@pytest.mark.parametrize(("word", "named"), DECIDING.items(), ids=DECIDING)
def test_whatever_cells_depend_on_is_compared(
    command: Command, run: Path, made: Path, word: str, named: str
) -> None:
    words = (f"run={run}", f"out={made}", "tissues=[a]", *ALONE)
    overlap = () if word.startswith(("overlap", "data")) else ("overlap_px=16",)
    line = error_line(command("predict", *words, *overlap, word))
    assert f"made with another {named}:" in line


def test_other_decoders_and_pixels_are_compared(
    command: Command, run: Path, made: Path, tmp_path: Path
) -> None:
    words = (f"out={made}", "tissues=[a]", "overlap_px=16", *ALONE)
    copy = shutil.copytree(run, tmp_path / "other")
    content = torch.load(copy / "decoder.ckpt", weights_only=True)
    torch.save(content | {"epoch": 3}, copy / "decoder.ckpt")
    assert "another decoder:" in error_line(command("predict", f"run={copy}", *words))
    store = write_store(tmp_path / "other.zarr", {"a": stained(128, 128, 9)})
    other = (f"run={run}", f"store.path={store.path}", *words)
    assert "another images:" in error_line(command("predict", *other))


def test_formats_that_are_not_asked_for_any_more_do_no_harm(
    command: Command, run: Path, made: Path
) -> None:
    words = (f"run={run}", f"out={made}", "tissues=[a]", "overlap_px=16", *ALONE)
    assert command("predict", *words, "formats=[geojson,csv]").code == 0
    line = error_line(command("predict", *words, "formats=[csv,anndata]"))
    assert "exists already, without anndata" in line


def test_the_page_of_a_folder_has_all_its_tissues(predict: Command, tmp_path: Path) -> None:
    for tissue in "ab":
        assert predict(f"tissues=[{tissue}]", "preview=true", "formats=[csv]").code == 0
    page = (tmp_path / "out/index.html").read_text()
    assert all(f'href="{tissue}/index.html"' in page for tissue in "ab")


def test_outlines_of_a_resampled_image_lie_on_its_file(predict: Command, tmp_path: Path) -> None:
    he = stained(96, 80, 3).he
    assert he is not None
    fine = np.moveaxis(he, 0, -1).repeat(2, 0).repeat(2, 1)
    tifffile.imwrite(tmp_path / "fine.tif", fine, photometric="rgb")
    result = predict("image.mpp=0.25", f"image={tmp_path / 'fine.tif'}")
    assert result.code == 0, result.err
    assert "a pixel is 2 of the file" in result.out
    folder = tmp_path / "out/fine"
    with (folder / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    features = json.loads((folder / "cells.geojson").read_text())["features"]
    for row, feature in zip(rows, features, strict=True):
        rings = feature["geometry"]["coordinates"]
        rings = rings[0] if feature["geometry"]["type"] == "MultiPolygon" else rings
        x, y = np.array(rings[0]).T
        assert x.min() >= 2 * int(row["left_px"])
        assert x.max() <= 2 * int(row["right_px"])
        assert y.max() == 2 * int(row["bottom_px"]) or len(rings) > 1
    notices = json.loads((folder / "prediction.json").read_text())["summary"]["notices"]
    assert any("a pixel is 2 of the file" in line for line in notices)


def test_results_do_not_go_into_a_store(command: Command, run: Path) -> None:
    store = run.parent / "cohort.zarr"
    line = error_line(command("predict", f"run={run}", f"out={store / 'cells'}", *ALONE))
    assert "lies in the store" in line
    assert not (store / "cells").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_runs_on_when_the_command_is_ended(
    run: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = [f"run={run}", f"out={out}", "workers=1", "views=8", "data.batch_size=1"]
    command = [sys.executable, "-m", "tissueseg.predict", *words, "overlap_px=16"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as parent:
        while parent.poll() is None and not list(out.glob(".*.partial-*/.maps-*/maps")):
            time.sleep(0.02)
        time.sleep(0.3)  # in the midst of the network's work
        parent.send_signal(sent)
        parent.communicate(timeout=60)  # until all who write into these pipes have ended
    left = list(out.glob(".*"))
    assert bool(left) == (sent == signal.SIGKILL)
    assert parent.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[sent]


def test_a_folder_of_somebody_else_is_left_alone(predict: Command, tmp_path: Path) -> None:
    other = tmp_path / "out/a/notes.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    for words in ((), ("overwrite=true",)):
        assert "was not made by predict" in error_line(predict("tissues=[a]", *words))
    assert other.read_text() == "mine"


def test_an_error_on_the_way_leaves_nothing(
    predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tissueseg.tables.label_image.LabelImage.finish", fail)
        assert "No space left on device" in error_line(predict("tissues=[a]"))
    assert not list((tmp_path / "out").glob("*"))
    assert predict("tissues=[a]").code == 0


@pytest.mark.parametrize("words", [("blend=core",), ("overlap_px=0",), ("region_px=64",)])
def test_tiles_are_put_together_in_other_ways(
    predict: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert predict("tissues=[b]", *words).code == 0
    assert ids(tmp_path / "out/b")


@pytest.mark.slow
def test_workers_find_the_same_cells(predict: Command, tmp_path: Path) -> None:
    assert predict("tissues=[a]").code == 0
    alone = (tmp_path / "out/a/cells.csv").read_text()
    assert predict("tissues=[a]", "workers=2", "overwrite=true").code == 0
    assert (tmp_path / "out/a/cells.csv").read_text() == alone


def test_tissues_without_labels_have_cells_all_the_same(predict: Command, tmp_path: Path) -> None:
    small = stained(20, 24, 7, instances=None, classes=None, sp=None)
    large = stained(100, 70, 8, instances=None, classes=None, sp=None)
    path = tmp_path / "plain.zarr"
    with TissueWriter(path, mpp=0.5, classes=CLASSES[:2], images=("he",)) as writer:
        writer.add("small", small)  # than a tile
        writer.add("large", large)
    assert not TissueStore(path).labelled("small")
    result = predict(f"store.path={path}")
    assert result.code == 0, result.err
    for name, size in (("small", (20, 24)), ("large", (100, 70))):
        assert read_labels(tmp_path / "out" / name).instances[0].shape == size


def test_an_image_file_is_predicted(predict: Command, tmp_path: Path) -> None:
    he = stained(90, 80, 3).he
    assert he is not None
    tifffile.imwrite(tmp_path / "slide.tif", np.moveaxis(he, 0, -1), photometric="rgb")
    line = error_line(predict(f"image={tmp_path / 'slide.tif'}"))
    assert "mpp" in line
    given = (f"image={tmp_path / 'slide.tif'}", "image.mpp=0.5")
    result = predict(*given)
    assert result.code == 0, result.err
    assert ids(tmp_path / "out/slide")
    assert "1 of 1 tissues are there already" in predict(*given).out


def test_pixels_without_nuclei_give_empty_tables(
    predict: Command, command: Command, run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "blind")
    content = torch.load(copy / "decoder.ckpt", weights_only=True)
    biases = [k for k in content["state"] if k.endswith("bias") and "foreground" in k]
    content["state"][biases[-1]].fill_(-1e4)
    torch.save(content, copy / "decoder.ckpt")
    words = (f"run={copy}", f"out={tmp_path / 'out'}", *ALONE, "tissues=[a]", FORMATS)
    result = command("predict", *words)
    assert result.code == 0, result.err
    assert ids(tmp_path / "out/a") == []
    assert json.loads((tmp_path / "out/a/cells.geojson").read_text())["features"] == []
    assert anndata.read_h5ad(tmp_path / "out/a/cells.h5ad").shape == (0, 2)


def test_maps_that_are_no_numbers_name_the_tile(
    command: Command, run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "damaged")
    content = torch.load(copy / "decoder.ckpt", weights_only=True)
    next(v for k, v in content["state"].items() if k.endswith("weight")).fill_(torch.nan)
    torch.save(content, copy / "decoder.ckpt")
    line = error_line(command("predict", f"run={copy}", f"out={tmp_path / 'out'}", *ALONE))
    assert "not finite for tissue a, tile at row 0, column 0" in line
    assert not list((tmp_path / "out").glob("*"))


REFUSED = {
    "instances=boundary": "wants the head boundary, but this run's decoder has classes, ",
    "instances.preset=odd": "preset",
    "views=3": "views=3 is unknown: choose from 1, 4, 8",
    "blend=smooth": "blend=smooth is unknown: choose from linear, core",
    "types=best": "types=best is unknown: choose from mean, majority",
    "overlap_px=24": "choose a multiple of 16 up to 16",
    "overlap_px=-1": "overlap_px=-1",
    "region_px=1": "region_px=1",
    "workers=-1": "workers=-1",
    "ring_um=-1": "ring_um=-1",
    "formats=[csv,xls]": "xls",
    "formats=csv": "wanted some of",
    "formats=[spatialdata]": "spatialdata",
    "tissues=[z]": "Choose from",
    "image=nowhere.tif": "nowhere.tif",
    "image.sp=nowhere.tif": "nowhere.tif",
    "image={what: x}": "Could not override 'image'",
    "image=3": "image.file=3: wanted a path or null",
    "embedding=maybe": "embedding=maybe: wanted true or false",
    "data.tile_px=20": "data.tile_px=20 is not a multiple of the 8 px patch",
    "store.path=nowhere.zarr": "no tissue store at nowhere.zarr",
    "trainer.devices=[0,1]": "wanted how many, -1 for all",
    "wait=maybe": "wait=maybe: wanted true or false",
    "trainer.accelerator=tpu": "trainer.accelerator=tpu is unknown",
    "views=8.0": "views=8.0 is unknown",
    "tissues=a": "wanted names as in tissues=[a,b]",
    "tissues=0": "wanted names as in tissues=[a,b]",
    "out=5": "out=5: wanted a path or null",
    "store=5": "store.path=5: wanted a path or null",
    "store.path=5": "store.path=5: wanted a path or null",
    "image.he=5": "image.he=5: wanted a path or null",
    "data=null": "data=None: wanted options",
    "data.batch_size=null": "data.batch_size",
    "run=5": "run=5: wanted a path",
    "instances.nucleus_um=1e9": "nucleus_um",
}


@pytest.mark.parametrize(("word", "said"), REFUSED.items(), ids=REFUSED)
def test_mistakes_are_one_line(predict: Command, tmp_path: Path, word: str, said: str) -> None:
    words = ("instances=hv", word) if word.startswith("instances.") else (word,)
    assert said in error_line(predict(*words))
    assert not list((tmp_path / "out").glob("*"))


def test_an_instance_decoder_that_fits_is_offered(predict: Command) -> None:
    line = error_line(predict("instances=boundary"))
    assert "choose instances=hv or components" in line


def test_a_store_of_another_scale_is_refused(predict: Command, tmp_path: Path) -> None:
    with TissueWriter(tmp_path / "fine.zarr", mpp=0.25, classes=CLASSES, images=("he",)) as writer:
        writer.add("a", random_tissue(sp=None))
    line = error_line(predict(f"store.path={tmp_path / 'fine.zarr'}"))
    assert "mpp: 0.5 ≠ 0.25" in line


def test_the_folder_of_a_run_is_no_place_for_cells(command: Command, run: Path) -> None:
    assert "is the folder of a run" in error_line(command("predict", f"run={run}", f"out={run}"))


def test_a_store_and_an_image_are_one_too_many(predict: Command, tmp_path: Path) -> None:
    store = write_store(tmp_path / "x.zarr", {"a": random_tissue()})
    line = error_line(predict(f"store.path={store.path}", "image=a.tif"))
    assert "both say what to predict" in line
