"""What SpatialData of stores and of predictions share: names, places, lazy pixels and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import zarr

from tissueseg.errors import ConfigError, TissueDataError

_BLOCK_PX = 1024  # of dask arrays; four chunks each way


def library() -> ModuleType:
    """Spatialdata itself, which is imported only where it is wanted.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import spatialdata  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"SpatialData needs its library ({error}): pip install 'tissueseg[spatial]'."
        ) from error
    return spatialdata


def check_names(tissues: Sequence[str]) -> None:
    """Spatialdata's rules, said before anything is counted.

    Raises:
        TissueDataError: naming a tissue it cannot hold.
    """
    spelt = Counter(tissue.casefold() for tissue in tissues)
    for tissue in tissues:
        plain = all(letter.isalnum() or letter in "_-." for letter in tissue)
        if not plain or spelt[tissue.casefold()] > 1:
            raise TissueDataError(
                f"tissue {tissue!r}: spatialdata takes names of letters, digits, '_', '-' and '.' that "
                "differ in more than their case: leave it out, or prepare it under another name."
            )


def place(sd: ModuleType, tissue: str, mpp: float | None) -> dict[str, Any]:
    """The tissue's own coordinate system, in µm or pixels."""
    return {tissue: sd.transformations.Scale([mpp or 1.0] * 2, axes=("y", "x"))}


def lazy(stored: zarr.Array) -> Any:
    """A dask array, read in blocks of all channels and handed on by channel."""
    import dask.array  # pyright: ignore[reportMissingImports]  # comes with spatialdata

    leading = stored.shape[:-2]
    blocks = dask.array.from_array(stored, chunks=(*leading, _BLOCK_PX, _BLOCK_PX))
    return blocks.rechunk(dict.fromkeys(range(len(leading)), 1))


def annotating(
    sd: ModuleType, region: str, ids: np.ndarray, rows: Any, centre: np.ndarray, **table: Any
) -> Any:
    """A table of cells that annotates labels.

    Args:
        sd: spatialdata.
        region: name of the labels.
        ids: (n,) of the cells in them.
        rows: data frame of what is known of the cells.
        centre: (n, 2) x and y, as the coordinate system has them.
        table: further fields of the `AnnData`.
    """
    import anndata  # pyright: ignore[reportMissingImports]  # comes with spatialdata
    import pandas as pd  # pyright: ignore[reportMissingImports]

    rows.insert(0, "instance_id", ids)
    rows.insert(1, "region", pd.Categorical([region] * len(ids)))
    made = anndata.AnnData(obs=rows, **table)
    made.obsm["spatial"] = centre
    return sd.models.TableModel.parse(
        made, region=region, region_key="region", instance_key="instance_id"
    )


def is_spatialdata(path: Path) -> bool:
    """Whether a path holds what may be replaced by SpatialData."""
    try:
        return "spatialdata_attrs" in zarr.open_group(path, mode="r").attrs
    except (OSError, ValueError, KeyError):
        return False
