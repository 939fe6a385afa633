"""Images of a folder that cannot be read, or mean nothing."""

from __future__ import annotations

import numpy as np

from spoilt.spoiling import (
    RGB,
    SIZE,
    Case,
    bomb,
    cut,
    he,
    loop,
    npy_sp,
    ome_sp,
    ones,
    sp,
    tiff_he,
    write,
)

IMAGES = {
    "damaged H&E": Case(write("a.he.png", b"\x89PNG damaged"), ("a.he.png cannot be read",)),
    "empty H&E": Case(write("a.he.png", b""), ("a.he.png cannot be read",)),
    "truncated H&E": Case(cut("a.he.png", -100), ("a.he.png cannot be read",)),
    "text as TIFF": Case(write("a.sp.tif", b"channel,value\n"), ("a.sp.tif cannot be read",)),
    "empty SP": Case(write("a.sp.tif", b""), ("a.sp.tif cannot be read",)),
    "truncated SP": Case(cut("a.sp.tif", -500), ("a.sp.tif cannot be read",)),
    "header-only SP": Case(cut("a.sp.tif", 16), ("a.sp.tif cannot be read",)),
    "TIFF that claims gigabytes": Case(
        bomb, ("a.nuclei.tif", "claims", "GB of pixels in", "damaged")
    ),
    "npy whose header is cut": Case(
        lambda f: (
            npy_sp(ones(2, *SIZE))(f),
            (f.path / "a.sp.npy").write_bytes(b"\x93NUMPY\x01\x00\x16\x00{'descr': '<u2', 'sha("),
        ),
        ("a.sp.npy cannot be read",),
    ),
    "link loop": Case(loop, ("a.he.png is missing",)),
    "folder as image": Case(
        lambda f: ((f.path / "a.he.png").unlink(), (f.path / "a.he.png").mkdir()),
        ("a.he.png is missing",),
    ),
    "H&E of 16 bits": Case(tiff_he(RGB.astype(np.uint16)), ("a.he.tif", "uint16", "8-bit RGB")),
    "H&E of floats": Case(
        tiff_he(RGB.astype(np.float32), photometric="rgb"), ("a.he.tif", "float32", "8-bit RGB")
    ),
    "H&E of one channel": Case(he(RGB[..., 0]), ("a.he.png", "1 channels", "RGB")),
    "H&E with SP's channels": Case(
        tiff_he(np.ones((5, *SIZE), np.uint8), metadata={"axes": "CYX"}),
        ("a.he.tif", "5 channels", "SP image"),
    ),
    "H&E in CMYK": Case(
        tiff_he(np.ones((*SIZE, 4), np.uint8), photometric="separated"), ("a.he.tif", "CMYK")
    ),
    "H&E without pixels": Case(
        lambda f: (
            np.save(f.path / "a.he.npy", RGB[:0]),
            np.save(f.path / "b.he.npy", RGB),
            f.describe(images={"he": "{id}.he.npy"}, channels=None),
        ),
        ("a.he.npy", "no pixels"),
    ),
    "H&E and SP of different sizes": Case(
        sp(ones(2, 20, 24)), ("tissue a", "20 × 24 px", "40 × 48", "1 : 2.00")
    ),
    "H&E and SP of different shapes": Case(
        sp(ones(2, 40, 47)), ("tissue a", "40 × 47 px", "40 × 48", "crop or pad")
    ),
    "too many SP channels": Case(sp(ones(3, *SIZE)), ("a.sp.tif", "3", "DAPI")),
    "too few SP channels": Case(sp(ones(1, *SIZE)), ("a.sp.tif", "1", "DAPI")),
    "SP with channels last": Case(
        npy_sp(ones(*SIZE, 2)), ("a.sp.npy", "(40, 48, 2)", "move it to the front")
    ),
    "SP whose axes say nothing": Case(
        npy_sp(ones(7, 9, 11), channels=None), ("a.sp.npy", "list them in order", "channels")
    ),
    "SP of four axes": Case(npy_sp(ones(2, 2, *SIZE)), ("a.sp.npy", "(2, 2, 40, 48)")),
    "SP with time": Case(
        sp(ones(3, 2, *SIZE), metadata={"axes": "TCYX"}, imagej=True), ("a.sp.tif", "TCYX")
    ),
    "SP of complex numbers": Case(
        npy_sp(ones(2, *SIZE, dtype=np.complex64)), ("a.sp.npy", "complex64")
    ),
    "SP with NaN": Case(
        sp(ones(2, *SIZE, dtype=np.float32, at=np.nan)), ("tissue a", "DAPI hold NaN")
    ),
    "SP with infinity": Case(
        sp(ones(2, *SIZE, dtype=np.float32, at=np.inf)), ("tissue a", "DAPI hold NaN or infinity")
    ),
    "negative SP": Case(
        sp(ones(2, *SIZE, dtype=np.float32, at=-3)),
        ("tissue a", "DAPI hold negative values (lowest -3)"),
    ),
    "pickled SP": Case(npy_sp(np.array([{"a": 1}], object)), ("a.sp.npy cannot be read",)),
    "SP without channel names": Case(
        ome_sp([None, None], channels=None), ("a.sp.ome.tif", "no channel names", "channels")
    ),
    "duplicate channel names": Case(
        ome_sp(["DAPI", "DAPI", "CD3"], channels=None),
        ("a.sp.ome.tif", "DAPI ×2", "more than once"),
    ),
    "channels in another order": Case(
        ome_sp(["CD3", "DAPI"]), ("channels has another order than", "a.sp.ome.tif")
    ),
}
