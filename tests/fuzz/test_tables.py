"""Tables that were spoilt, of sources, of splits and of what runs leave: read, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ImageFolder
from fuzz.fuzzing import spoil
from fuzz.kinds import Kind, check
from fuzz.plain_values import spoilt_json, spoilt_yaml
from fuzz.test_yaml import small_tissue
from layouts import Spora, Study
from runs_made import CLASSES, write_run
from slide_folders import SlideFolder, draw_slide

from tissueseg.data.split_tables import Column
from tissueseg.data.splits import Cohort
from tissueseg.reporting.records.run_record import read_runs
from tissueseg.reporting.study.compare import Wanted, compare
from tissueseg.reporting.study.files import write_report
from tissueseg.store.planes import whole
from tissueseg.store.sources.base import Source
from tissueseg.store.sources.folder import FolderSource
from tissueseg.store.sources.orion import OrionSource
from tissueseg.store.sources.spora import SporaSource
from tissueseg.store.sources.study import StudySource

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]

Columns = dict[str, list[Any]]

CELLS: tuple[Any, ...] = (
    *("", " ", "NA", "nan", "None", "-1", "0", "1", "1.0", "1.5", "1e400", "inf", "-inf", "1_000"),
    *(
        "0x10",
        "99999999999999999999999",
        "true",
        "Yes",
        "x" * 300,
        '"',
        "a,b",
        "a;b\tc",
        "é",
        "\ud800",
    ),
    *(
        "../x",
        "/etc/passwd",
        "a/b",
        "\0",
        "\n",
        "=1+1",
        "{id}",
        "{n}",
        "#",
        "\u202e",
        "\ufeff",
        "٣",
    ),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**18, 2**63 - 1, 0.5, float("nan"), float("inf"), "", "x", "1", b"\xff"),
    *([1, 2], {"a": 1}, [None], "a", "tumor", "P07766", "../x", "\0"),
)
_ENCODINGS = ("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037")


def spoilt_columns(random: Random, columns: Columns, cells: Sequence[Any] = CELLS) -> Columns:
    """Cells replaced or swapped, columns dropped or renamed, rows doubled or taken out."""
    columns = {name: list(values) for name, values in columns.items()}
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        if not columns:
            return columns
        name = random.choice(list(columns))
        values = columns[name]
        at = random.randrange(len(values)) if values else 0
        match random.randrange(8):
            case 0 | 1 | 2 if values:
                values[at] = random.choice(cells)
            case 3 if values:
                columns[name] = [random.choice(cells)] * len(values)
            case 4:
                del columns[name]
            case 5:
                columns[random.choice(("x", "", f" {name}", name.upper(), "é", name * 50))] = (
                    columns.pop(name)
                )
            case 6:
                rows = random.choice(([at, at], [], [0]))
                columns = {n: [v[i] for i in rows if i < len(v)] for n, v in columns.items()}
            case 7:
                other = random.choice(list(columns))
                columns[name], columns[other] = columns[other], columns[name]
    return columns


def spoilt_csv(random: Random, columns: Columns) -> bytes:
    """Text of a table whose cells, lines, delimiters, encoding or bytes are spoilt."""
    columns = spoilt_columns(random, columns) if random.randrange(3) else columns
    text = io.StringIO()
    delimiter = random.choice((",", ",", ";", "\t"))
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    names, rows = list(columns), [list(row) for row in zip(*columns.values(), strict=False)]
    if not random.randrange(8) and names:
        names.append(random.choice(names))
        rows = [[*row, row[0]] for row in rows]
    if not random.randrange(8) and rows:
        row = random.choice(rows)
        row[random.randrange(len(row)) :] = random.choice(([], ["x"] * 3))
    writer.writerows([names, *rows])
    said = text.getvalue()
    if not random.randrange(12):
        said = said.replace("\r\n", random.choice(("\n", "\r", "\n\n", "\r\n\r\n", "\n,\n")))
    if not random.randrange(12):
        said += random.choice(('"', "\n\n", "x", '"a""', "a" * 200_000, "\0", ",,,,"))
    data = said.encode("utf-8", "surrogatepass")
    if not random.randrange(20):
        data = said.encode(random.choice(_ENCODINGS), "replace")
    return data if random.randrange(4) else spoil(random, data, words=True)


def spoilt_parquet(random: Random, columns: Columns, others: Sequence[bytes]) -> bytes:
    """A file whose columns are of other values or types, or whose bytes are spoilt."""
    import pyarrow as pa
    from pyarrow import parquet

    spoilt = spoilt_columns(random, columns, _VALUES) if random.randrange(4) else columns
    names, arrays = [], []
    for name, values in spoilt.items():
        names.append(name)
        arrays.append(_array(random, pa, values))
    if not random.randrange(10) and names:
        names.append(random.choice(names))
        arrays.append(arrays[0])
    least = min(map(len, arrays), default=0)
    table = pa.Table.from_arrays([array[:least] for array in arrays], names=names)
    out = io.BytesIO()
    codec = random.choice(("snappy", "zstd", "none", "gzip"))
    parquet.write_table(table, out, compression=codec, use_dictionary=random.choice((True, False)))
    data = out.getvalue()
    match random.randrange(6):
        case 0 | 1:
            return spoil(random, data, others, words=True)
        case 2:  # its footer, which is last
            cut = len(data) - random.randrange(8, min(len(data), 1500))
            return data[:cut] + spoil(random, data[cut:], others)
    return data


def _array(random: Random, pa: Any, values: list[Any]) -> Any:
    types = (pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.string(), pa.large_string())
    types += (pa.binary(), pa.bool_(), pa.date32(), pa.timestamp("ns", "Nowhere/Else"), pa.null())
    types += (pa.timestamp("us"), pa.time64("ns"), pa.duration("s"), pa.decimal128(38, 3))
    types += (pa.list_(pa.int32()), pa.dictionary(pa.int32(), pa.string()), pa.string_view())
    try:
        array = pa.array(values)
        if not random.randrange(3):
            array = array.cast(random.choice(types), safe=False)
    except Exception:  # what arrow cannot hold
        array = pa.array([None if v is None else str(v).replace("\ud800", "?") for v in values])
        if not random.randrange(2):
            array = pa.array([0] * len(values), pa.int64()).view(pa.timestamp("ns", "Nowhere/Else"))
    return array


def types_kind(folder: Path) -> Kind:
    """A table of the types of cells, of a folder of images."""
    images = ImageFolder(folder / "images")
    tissue = small_tissue(24)
    images.add("a", tissue)
    ids = np.unique(tissue.instances)[1:].tolist()
    table: Columns = {"id": ids, "type": ["tumor", "T_h"] * len(ids), "x": [0.5] * len(ids)}
    table["type"] = table["type"][: len(ids)]
    classes = ["background", "tumor", {"name": "t_cell", "types": ["T_h"]}]

    def make(random: Random, place: Path) -> Path:
        suffix = random.choice((".csv", ".parquet", ".tsv"))
        for name in ("a.he.png", "a.nuclei.tif"):
            (place / name).symlink_to(images.path / name)
        about = {"mpp": 0.5, "images": {"he": "{id}.he.png"}, "classes": classes}
        masks = {"instances": "{id}.nuclei.tif", "types": f"{{id}}{suffix}"}
        text = yaml.safe_dump(about | {"masks": masks, "untyped": "ignore"})
        (place / "tissues.yaml").write_text(text)
        (place / f"a{suffix}").write_bytes(_spoilt(random, suffix, table))
        return place

    return Kind(make, lambda place: _read(FolderSource(place)))


def slides_kind(folder: Path) -> Kind:
    """Tables of slides, of regions and of cells."""
    slides = SlideFolder(folder / "slides")
    slides.add("a", draw_slide(80, 96))
    slides.description["masks"]["types"] = {
        "id": "CellID",
        "type": "phenotype",
        "untyped": ["unclear"],
    }
    slides.description |= {"images": None, "masks": {"types": slides.description["masks"]["types"]}}
    slides.describe(slides="slides.csv", regions={"table": "regions.csv"})
    with (slides.path / "a.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    tables: dict[str, Columns] = {
        "slides.csv": {"id": ["a"], "he": ["a.he.ome.tif"], "sp": ["a.sp.ome.tif"]}
        | {"labels": ["a.labels.ome.tif"], "cells": ["a.csv"], "patient": ["p"], "split": ["x"]},
        "regions.csv": {"slide": ["a", "a"], "region": ["r", "s"], "x": [8, 0], "y": [8, 0]}
        | {"width": [32, 16], "height": [24, 16]},
        "a.csv": dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)),
    }

    def make(random: Random, place: Path) -> Path:
        for path in slides.path.iterdir():
            (place / path.name).symlink_to(path)
        spoilt = random.choice(list(tables))
        for name, columns in tables.items():
            (place / name).unlink(missing_ok=True)
            data = _spoilt(random, ".csv", columns) if name == spoilt else _csv(columns)
            (place / name).write_bytes(data)
        return place

    return Kind(make, lambda place: _read(OrionSource(place)))


def split_kind(folder: Path) -> Kind:
    """A table of splits of one's own."""
    patients = {name: f"patient of {name}" for name in ("a", "b", "c", "d")}
    columns = {"tissue": list(patients), "split": ["train", "val", "test", "train"]}

    def make(random: Random, place: Path) -> Path:
        suffix = random.choice((".csv", ".tsv", ".parquet"))
        path = place / f"split{suffix}"
        path.write_bytes(_spoilt(random, suffix, columns))
        return path

    def read(path: Path) -> None:
        rule = Column(
            table=str(path), train=["train"], val=["val"], test=["test"], leave_out=[None]
        )
        rule.check_files()
        rule(Cohort(patients))

    return Kind(make, read)


def study_kind(folder: Path) -> Kind:
    """Tables of the study of ORION, and the pickle of its class names."""
    study = Study(folder / "study")
    tables = {path.relative_to(study.path): _columns(path) for path in study.path.rglob("*.csv")}
    names = [["background", "tumor", "immune"], ["tumor", "immune"]]

    def make(random: Random, place: Path) -> Path:
        shutil.copytree(study.path, place, dirs_exist_ok=True)
        path = random.choice([*tables, None])
        if path is None:
            text = np.array(random.choice(names), random.choice((object, str)))
            data = io.BytesIO()
            np.save(data, text, allow_pickle=True)
            spoilt = spoilt_pickle(random, data.getvalue())
            study_path = study.encoder.relative_to(study.path)
            (place / study_path).write_bytes(spoilt)
        else:
            (place / path).write_bytes(_spoilt(random, ".csv", tables[path]))
        return place

    def read(place: Path) -> None:
        try:
            _read(StudySource(place, mpp=0.5, name="orion"))
        finally:
            assert not Path(_HARM).exists(), "a pickle ran code"

    return Kind(make, read)


def spora_kind(folder: Path) -> Kind:
    """Parquet tables of the spora layout."""
    from pyarrow import parquet

    spora = Spora(folder / "spora")
    paths = [path.relative_to(spora.path) for path in spora.path.rglob("*.parquet")]
    tables = {path: parquet.read_table(spora.path / path).to_pydict() for path in paths}
    others = [(spora.path / path).read_bytes() for path in paths]

    def make(random: Random, place: Path) -> Path:
        shutil.copytree(spora.path, place, dirs_exist_ok=True, copy_function=_linked)
        path = random.choice(paths)
        (place / path).unlink()
        (place / path).write_bytes(spoilt_parquet(random, tables[path], others))
        return place

    return Kind(make, lambda place: _read(SporaSource(place, untyped="ignore")))


def report_kind(folder: Path) -> Kind:
    """Files of runs, as `report` reads them."""
    _runs(folder / "runs")
    paths = [path.relative_to(folder / "runs") for path in (folder / "runs").rglob("*.*")]
    paths = sorted(path for path in paths if path.suffix in _SPOILT)

    def make(random: Random, place: Path) -> Path:
        shutil.copytree(folder / "runs", place, dirs_exist_ok=True, copy_function=_linked)
        for path in (place / name for name in random.sample(paths, random.choice((1, 1, 2)))):
            before = path.read_bytes()
            path.unlink()
            path.write_bytes(_SPOILT[path.suffix](random, before))
        return place

    def read(place: Path) -> None:
        records, unfinished = read_runs([place])
        found = compare(records, unfinished, Wanted(replicates=100), "command")
        if int(place.name) % 8 == 0:
            write_report(place / "report", found)

    return Kind(make, read)


_HARM = "/tmp/tissueseg-fuzz-harm"


class Harmful:
    """Unpickling it leaves a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(_HARM),)


def spoilt_pickle(random: Random, data: bytes) -> bytes:
    """An npy file whose header or pickle is spoilt, or holds what would run."""
    start = data.find(b"\n") + 1
    head, body = data[:start], data[start:]
    harm = pickle.dumps(np.array([Harmful()], object), protocol=random.randrange(6))
    match random.randrange(6):
        case 0:
            return spoil(random, data, [harm], words=True)
        case 1:
            return head + harm
        case 2:
            return head + spoil(random, harm, [body])
        case 3:
            return head + spoil(random, body, [harm])
        case 4:
            values = [
                random.choice(("a", "background", 1, None, b"x", ["y"], {"z": 1})) for _ in "abc"
            ]
            return head + pickle.dumps(np.array(values, object), protocol=random.randrange(6))
    return spoil(random, head, [harm]) + body


def _json(random: Random, before: bytes) -> bytes:
    return spoilt_json(random, json.loads(before))


def _yaml(random: Random, before: bytes) -> bytes:
    return spoilt_yaml(random, yaml.safe_load(before))


def _npz(random: Random, before: bytes) -> bytes:
    if random.randrange(2):
        return spoil(random, before)
    with np.load(io.BytesIO(before)) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    name, out = random.choice(list(found)), io.BytesIO()
    odd = (np.zeros(3), np.array("x"), np.array(["a"] * 4), np.full(4, np.nan), np.zeros(0))
    odd += (np.full(4, 1e308), np.array([1j] * 4), np.array([True] * 4), np.zeros((4, 1)))
    odd += (np.array(["2024"] * 4, "datetime64[D]"), np.array([None] * 4), np.full(4, -np.inf))
    found[name] = random.choice(odd)
    if not random.randrange(3):
        found = {n: random.choice(odd) for n in found}
    if not random.randrange(4):
        del found[name]
    np.savez(out, **found)  # type: ignore[arg-type]
    return out.getvalue()


def _npy(random: Random, before: bytes) -> bytes:
    if random.randrange(2):
        return spoil(random, before)
    counts, out = np.load(io.BytesIO(before)), io.BytesIO()
    odd = (counts * 0, -counts, counts.astype(float), counts[:1], counts.astype(object), counts[0])
    odd += (np.full_like(counts, 2**62), counts.astype("u1"), counts.astype(">i8"), counts.T)
    np.save(out, random.choice(odd), allow_pickle=True)
    return out.getvalue()


_SPOILT = {".json": _json, ".yaml": _yaml, ".npz": _npz, ".npy": _npy}


def _runs(folder: Path) -> None:
    """Two arms of a study on two folds and seeds, and a sweep's note of one."""
    rng = np.random.default_rng(0)
    for arm in ("baseline", "other"):
        for fold in (1, 2):
            for seed in (0,):
                tissues = {"val": [f"v{fold}", f"w{fold}"], "test": [f"t{fold}"]}
                shape = (len(CLASSES), len(CLASSES))
                counts = {
                    side: rng.integers(1, 90, (len(names), *shape))
                    for side, names in tissues.items()
                }
                name = f"{arm}/fold_{fold}-seed_{seed}"
                place = {"arm": arm, "fold": fold, "seed": seed, "cells": seed == 0}
                write_run(folder / name, tissues=tissues, confusions=counts, **place)  # type: ignore[arg-type]
    (folder / "jobs").mkdir()
    said = {"study": "decoders", "arm": "other", "label": "fold_3", "state": "failed", "line": "x"}
    (folder / "jobs/other.fold_3.json").write_text(json.dumps(said))


KINDS = {
    "cell_types": types_kind,
    "slide_tables": slides_kind,
    "splits": split_kind,
    "study": study_kind,
    "spora": spora_kind,
    "report": report_kind,
}


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_tables_are_read_or_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").mkdir()
    check(name, KINDS[name](tmp_path / "corpus"), tmp_path / "inputs", capsys)


def _spoilt(random: Random, suffix: str, columns: Columns) -> bytes:
    if suffix == ".parquet":
        return spoilt_parquet(random, columns, ())
    return spoilt_csv(random, columns)


def _csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def _columns(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _linked(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def _read(source: Source) -> None:
    for name in source.tissues[:2]:
        tissue = source.open(name)
        tissue.read(whole(tissue.shape))
