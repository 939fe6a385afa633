"""A page for every predicted tissue, and one for all of them: HTML that needs nothing but itself.

No script, nothing loaded from elsewhere: a page can be mailed, and still be read in ten years.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from tissueseg.errors import StoreWriteError
from tissueseg.reporting.overview_pictures import Pair
from tissueseg.reporting.page_parts import embedded, histogram, page, size_of, table
from tissueseg.reporting.tissue_summary import TissueSummary, TypeCount

NAME = "index.html"

OPENS = {
    "labels.ome.zarr": "napari labels.ome.zarr/instances (plugin napari-ome-zarr), ome-zarr, Fiji",
    ".spatialdata.zarr": "spatialdata.read_zarr, napari-spatialdata",
    ".geojson": "QuPath: drag onto the image; QGIS",
    ".h5ad": "scanpy.read_h5ad, squidpy, CELLxGENE",
    ".geo.parquet": "geopandas.read_parquet, QGIS",
    ".parquet": "pandas.read_parquet, polars, DuckDB, R arrow",
    ".csv": "any spreadsheet, pandas.read_csv",
    ".json": "any text editor",
    ".png": "any picture viewer",
}
"""End of a file's name -> what opens it; the first that fits."""

_RANDOM = (
    "RANDOM ENCODER WEIGHTS: no parameter of the encoder came from a checkpoint. These cells test the "
    "machinery; they say nothing about the tissue."
)


def write_tissue_page(
    folder: Path, summary: TissueSummary, preview: Pair, crops: Sequence[Pair] = ()
) -> Path:
    """Write `<folder>/index.html`, of less than 3 MB.

    Args:
        folder: of the tissue's results.
        summary: what it says.
        preview: the whole tissue.
        crops: places at full resolution.

    Raises:
        StoreWriteError: the disk does not take it.
    """
    return _write(folder, tissue_page(summary, preview, crops))


def write_prediction_page(folder: Path, title: str, summaries: Sequence[TissueSummary]) -> Path:
    """Write `<folder>/index.html`, which links the page of every tissue.

    Args:
        folder: of a whole prediction, with a folder for every tissue.
        title: plain text, such as the name of the run.
        summaries: of its tissues.

    Raises:
        StoreWriteError: the disk does not take it.
    """
    return _write(folder, prediction_page(title, summaries))


def tissue_page(summary: TissueSummary, preview: Pair, crops: Sequence[Pair] = ()) -> str:
    """The page of one tissue as HTML."""
    pairs = [preview, *crops]
    pictures = iter(embedded([picture for pair in pairs for picture in (pair.plain, pair.cells)]))
    shown = [
        _pair(next(pictures), next(pictures), _caption(summary, pair, i))
        for i, pair in enumerate(pairs)
    ]
    body = [
        f"<h1>{escape(summary.tissue)}</h1>",
        *_loud([summary]),
        _figures(_key_figures(summary)),
        *_notices(summary),
        "<h2>Cells</h2>",
        shown[0],
        _types(summary),
        *(["<h2>Where cells are densest</h2>", *shown[1:]] if crops else []),
        *_histograms(summary),
        "<h2>Files</h2>",
        _files(summary),
        "<h2>Provenance</h2>",
        _provenance(summary),
    ]
    return page(summary.tissue, body)


def prediction_page(title: str, summaries: Sequence[TissueSummary]) -> str:
    """The page of all tissues as HTML."""
    types = list(dict.fromkeys((t.name, t.color) for s in summaries for t in s.cells.types))
    rows = []
    for s in summaries:
        found = {(t.name, t.color): t.cells for t in s.cells.types}
        link = f'<a href="{escape(quote(s.tissue, safe=""))}/{NAME}">{escape(s.tissue)}</a>'
        size = "" if s.area_mm2 is None else f"{s.area_mm2:,.3f}"
        dense = "" if s.per_mm2 is None else f"{s.per_mm2:,.0f}"
        counts = [f"{found.get(key, 0):,}" for key in types]
        rows.append([link, size, f"{s.cells.total:,}", dense, *counts])
    header = ["tissue", "mm²", "cells", "cells/mm²", *(name for name, _ in types)]
    total = sum(s.cells.total for s in summaries)
    figures = [("tissues", f"{len(summaries):,}"), ("cells", f"{total:,}")]
    listed = table(header, rows, range(1, len(header)))
    body = [f"<h1>{escape(title)}</h1>", *_loud(summaries), _figures(figures), listed]
    return page(title, body)


def opened_by(name: str) -> str:
    """What opens a file of this name; empty where nothing is known."""
    return next((how for end, how in OPENS.items() if name.endswith(end)), "")


def _key_figures(summary: TissueSummary) -> list[tuple[str, str]]:
    figures = [("cells", f"{summary.cells.total:,}")]
    if summary.per_mm2 is not None and summary.area_mm2 is not None:
        figures.append(("cells/mm² of the image", f"{summary.per_mm2:,.0f}"))
        figures.append(("mm²", f"{summary.area_mm2:,.3f}"))
    scale = "not known" if summary.mpp is None else f"{summary.mpp:g}"
    size = f"{summary.height_px:,} × {summary.width_px:,}"
    return [*figures, ("px, height × width", size), ("µm/px", scale)]


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    shown = (f"<div><b>{escape(v)}</b><span>{escape(n)}</span></div>" for n, v in figures)
    return f'<div class="figures">{"".join(shown)}</div>'


def _loud(summaries: Sequence[TissueSummary]) -> Iterator[str]:
    if any(s.random_weights for s in summaries):
        yield f'<p class="loud">{escape(_RANDOM)}</p>'


def _notices(summary: TissueSummary) -> Iterator[str]:
    notices = list(summary.notices)
    if cut := summary.cells.at_edge:
        notices.append(f"{cut:,} cells touch the edge of the tissue and may go on beyond it.")
    if dropped := summary.duplicates:
        notices.append(f"{dropped:,} cells were found by two blocks; one of each was dropped.")
    if notices:
        items = "".join(f"<li>{escape(notice)}</li>" for notice in notices)
        yield f'<ul class="notices">{items}</ul>'


def _pair(plain: str, cells: str, caption: str) -> str:
    pictures = "".join(
        f'<img src="{address}" alt="{escape(f"{caption}, {what}")}">'
        for address, what in ((plain, "image"), (cells, "cells outlined in the colours of types"))
    )
    shown = f'<div class="pair">{pictures}</div>'
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _caption(summary: TissueSummary, pair: Pair, number: int) -> str:
    y, x, height, width = pair.window
    if number == 0:
        factor = max(1.0, height / pair.plain.shape[0], width / pair.plain.shape[1])
        return "Whole tissue" + (f", shrunk {factor:.1f} times" if factor > 1 else "")
    size = f"{height} × {width} px"
    if summary.mpp:
        size += f" ({height * summary.mpp:.0f} × {width * summary.mpp:.0f} µm)"
    return f"{size} from row {y:,}, column {x:,}"


def _types(summary: TissueSummary) -> str:
    ordered = sorted(summary.cells.types, key=lambda t: -t.cells)
    most = max((t.cells for t in ordered), default=0)
    rows = [_type_row(t, summary.cells.total, most) for t in ordered]
    return table(["type", "cells", "share", ""], rows, (1, 2))


def _type_row(kind: TypeCount, total: int, most: int) -> list[str]:
    color = escape(kind.color)
    chip = f'<span class="chip" style="background:{color}"></span>'
    share, length = (100 * kind.cells / whole if whole else 0.0 for whole in (total, most))
    bar = f'<div class="share"><i style="width:{length:.1f}%;background:{color}"></i></div>'
    return [chip + escape(kind.name), f"{kind.cells:,}", f"{share:.1f} %", bar]


def _histograms(summary: TissueSummary) -> Iterator[str]:
    if summary.cells.area:
        yield f"<h2>Area</h2>\n{histogram(summary.cells.area, 'cells by area')}"
    if summary.cells.type_prob:
        shown = histogram(summary.cells.type_prob, "cells by the probability of their type")
        yield f"<h2>Probability of the type</h2>\n{shown}"


def _files(summary: TissueSummary) -> str:
    rows = [
        [
            f'<a href="{escape(quote(f.name))}">{escape(f.name)}</a>',
            size_of(f.bytes),
            escape(opened_by(f.name)),
        ]
        for f in summary.files
    ]
    return table(["file", "size", "opens with"], rows, (1,))


def _provenance(summary: TissueSummary) -> str:
    rows = [[escape(key), escape(value)] for key, value in summary.about.items()]
    return table(["what", "which"], rows, ())


def _write(folder: Path, text: str) -> Path:
    path = folder / NAME
    draft = folder / f".{NAME}-{uuid4().hex}"  # several processes may write it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise StoreWriteError(
            f"cannot write {path}: {error}. Free space, or choose another folder."
        ) from error
    return path
