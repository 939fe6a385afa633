"""Masks and tables of a folder that are none, or contradict the image."""

from __future__ import annotations

import numpy as np

from spoilt.spoiling import RGB, Case, cells, class_mask, cut, mask, scattered, table, write

MASKS = {
    "empty mask file": Case(write("a.nuclei.tif", b""), ("a.nuclei.tif cannot be read",)),
    "truncated mask": Case(cut("a.nuclei.tif", -300), ("a.nuclei.tif cannot be read",)),
    "mask of 0 bytes": Case(write("a.classes.png", b""), ("a.classes.png cannot be read",)),
    "mask without pixels": Case(
        lambda f: (
            np.save(f.path / "a.npy", np.zeros((0, 48), np.uint16)),
            np.save(f.path / "b.npy", cells()),
            f.describe(masks={"instances": "{id}.npy"}, classes=None),
        ),
        ("a.npy", "no pixels"),
    ),
    "mask of fractions": Case(
        mask(cells(dtype=np.float32) + 0.5), ("a.nuclei.tif", "float32", "integers")
    ),
    "mask with NaN": Case(mask(cells(np.nan, np.float32)), ("a.nuclei.tif", "float32", "integers")),
    "negative labels": Case(mask(cells(-4, np.int32)), ("tissue a", "instance ids are -4")),
    "labels above 2^32": Case(mask(cells(2**33, np.int64)), ("tissue a", "8589934592", "relabel")),
    "mask of colours": Case(mask(RGB), ("a.nuclei.tif", "(40, 48, 3)", "one integer per pixel")),
    "foreground as instances": Case(mask(cells(1)), ("a.nuclei.tif", "one id (1) in 2 pieces")),
    "classes as instances": Case(
        mask(scattered()),
        ("a.nuclei.tif", "looks like a class image"),
    ),
    "mask at another resolution": Case(
        mask(np.kron(cells(), np.ones((2, 2), np.uint16))),
        ("tissue a", "80 × 96", "40 × 48", "1 : 2.00"),
    ),
    "mask with swapped axes": Case(mask(cells().T), ("tissue a", "48 × 40", "40 × 48", "swapped")),
    "class mask of another size": Case(
        class_mask(np.zeros((39, 48), np.uint8)), ("a.classes.png", "39 × 48 px", "40 × 48")
    ),
    "unknown class id": Case(
        lambda f: (mask(cells())(f), class_mask(cells(7, np.uint8))(f)),
        ("tissue a", "id [7]", "class table"),
    ),
    "instance without class": Case(
        lambda f: (mask(cells())(f), class_mask(cells(0, np.uint8))(f)),
        ("tissue a", "2 instances without class", "untyped"),
    ),
    "class mask of floats": Case(
        lambda f: (
            [np.save(f.path / f"{n}.npy", cells().astype(np.float32) / 3) for n in "ab"],
            f.describe(masks={"instances": "{id}.nuclei.tif", "classes": "{id}.npy"}),
        ),
        ("a.npy", "integers"),
    ),
    "ignore mask of another size": Case(
        lambda f: (
            [np.save(f.path / f"{n}.npy", cells()[:, 1:]) for n in "ab"],
            f.describe(masks=f.description["masks"] | {"ignore": "{id}.npy"}),
        ),
        ("a.npy is 40 × 47 px", "40 × 48"),
    ),
    "npz of several arrays": Case(
        lambda f: (
            [np.savez(f.path / f"{n}.npz", x=cells(), y=cells()) for n in "ab"],
            f.describe(masks={"instances": "{id}.npz"}, classes=None),
        ),
        ("a.npz", "['x', 'y']", "instances"),
    ),
}

TABLES = {
    "table without the columns": Case(
        table("cell,kind\n1,tumor\n"), ("a.csv", "['id', 'type']", "masks.types")
    ),
    "empty table": Case(table(""), ("a.csv is empty", "header")),
    "id given twice": Case(
        table("id,type\n1,tumor\n1,immune\n"), ("a.csv line 3", "id 1 is given twice")
    ),
    "id that is no number": Case(
        table("id,type\nx,tumor\n"), ("a.csv line 2", "id is 'x', wanted a number")
    ),
    "row without a value": Case(table("id,type\n1\n"), ("a.csv line 2 has 1 values", "mend")),
    "unknown type": Case(
        table("id,type\n1,tumour\n"), ("a.csv line 2", "'tumour'", "did you mean tumor?")
    ),
    "table in another encoding": Case(
        table("id,type\n1,Tumör\n", "latin-1"), ("a.csv cannot be read as a table",)
    ),
    "binary as a table": Case(
        lambda f: (table("")(f), (f.path / "a.csv").write_bytes(bytes(range(256)))), ("a.csv",)
    ),
    "table of half the cells": Case(
        table("id,type\n1,tumor\n"), ("tissue a", "a.csv", "instances without class", "untyped")
    ),
}
