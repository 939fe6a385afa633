"""Descriptions of a folder, and command lines, that cannot be meant."""

from __future__ import annotations

import shutil

from spoilt.spoiling import Case, describe, description, remove

DESCRIPTIONS = {
    "no description": Case(remove("tissues.yaml"), ("no description at", "tissues.yaml")),
    "broken YAML": Case(description("mpp: [0.5"), ("tissues.yaml cannot be read",)),
    "a list as description": Case(description("- mpp"), ("tissues.yaml holds ['mpp']",)),
    "key given twice": Case(
        description("mpp: 1\nmpp: 2\n"), ("tissues.yaml", "mpp is given twice")
    ),
    "aliases of aliases": Case(
        description("a: &a [x, x]\nb: &b [*a, *a]\nmasks: [*b, *b]\n"),
        ("tissues.yaml cannot be read", "aliases such as *a"),
    ),
    "a date that is none": Case(description("mpp: 2024-99-99"), ("tissues.yaml cannot be read",)),
    "brackets without end": Case(description("[" * 5000), ("tissues.yaml cannot be read",)),
    "unknown key": Case(
        describe(chanels=[]), ("tissues.yaml", "'chanels'", "did you mean channels?")
    ),
    "no scale": Case(describe(mpp=None), ("tissues.yaml: mpp is missing",)),
    "scale of 0": Case(describe(mpp=0), ("tissues.yaml: mpp is 0",)),
    "scale in nanometres": Case(describe(mpp=325), ("tissues.yaml: mpp is 325", "µm per pixel")),
    "classes without background": Case(
        describe(classes=["tumor"]), ("classes must begin with background",)
    ),
    "more classes than there are ids": Case(
        describe(classes=["background", *(f"k{i}" for i in range(300))]),
        ("301 classes", "at most 255"),
    ),
    "class colour": Case(
        describe(classes=["background", {"name": "x", "color": "red"}]),
        ("classes[1].color is 'red'",),
    ),
    "wrong accession": Case(
        describe(channels=["DAPI", {"name": "CD3", "uniprot": "CD3E"}]), ("channels[1]", "'CD3E'")
    ),
    "too many channels listed": Case(
        describe(channels=["a", "b", "c"]), ("a.sp.tif", "'a', 'b', 'c'")
    ),
    "pattern without id": Case(
        describe(images={"he": "a.he.png"}, channels=None), ("images.he is 'a.he.png'", "{id}")
    ),
    "pattern that fits nothing": Case(
        describe(images={"he": "{id}.jpg"}, channels=None), ("no file in", "'{id}.jpg'")
    ),
    "patient pattern that finds nothing": Case(
        describe(patient="^r[0-9]+"), ("patient='^r[0-9]+'", "'a'")
    ),
    "patient pattern that is none": Case(
        describe(patient="("), ("patient is '('", "regular expression")
    ),
    "missing pair": Case(remove("b.sp.tif"), ("tissue b", "b.sp.tif is missing")),
    "missing masks": Case(
        remove("a.nuclei.tif", "b.nuclei.tif"),
        ("a.nuclei.tif is missing (2 files are missing in all)",),
    ),
    "unknown tissue": Case(describe(tissues=["a", "x"]), ("x.he.png is missing", "`tissues`")),
    "tissue outside the folder": Case(describe(tissues=["../secret"]), ("'../secret'", "tissues")),
    "tissue by absolute path": Case(
        describe(tissues=["/etc/passwd"]), ("'/etc/passwd'", "tissues")
    ),
    "no folder": Case(lambda f: shutil.rmtree(f.path), ("source.path=images is not a folder",)),
    "a file as folder": Case(
        lambda f: (shutil.rmtree(f.path), f.path.write_text("x")),
        ("source.path=images is not a folder",),
    ),
    "no source": Case(describe(), ("source.path",), ("source.path=null",)),
    "unknown source": Case(describe(), ("source",), ("source=fodler",)),
    "scale that is none": Case(describe(), ("mpp=",), ("mpp=-1",)),
}
