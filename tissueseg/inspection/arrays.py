"""Whether a store's arrays are those its index speaks of: all there, of one size and of known types."""

from __future__ import annotations

import numpy as np

from tissueseg.contracts import Modality
from tissueseg.errors import TissueDataError
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.tissues import TissueStore

_TYPES = {"he": ("uint8",), "sp": ("uint8", "uint16", "float32")}
_TYPES |= {INSTANCES: ("int32",), CLASSES: ("uint8",)}


def check_arrays(store: TissueStore) -> None:
    """Refuse a store that cannot be looked through, without reading a pixel.

    Raises:
        StoreNotFoundError: arrays or attributes are gone.
        TissueDataError: arrays are not as the store's index has them.
    """
    store.check_arrays(store.tissues, Modality("_".join(store.images)))
    for tissue in store.tissues:
        store.attributes(tissue)
        for array in (*store.images, INSTANCES, CLASSES):
            _check_array(store, tissue, array)


def _check_array(store: TissueStore, tissue: str, array: str) -> None:
    channels = {"he": (3,), "sp": (len(store.panel),)}.get(array, ())
    entry, found = store.entry(tissue), store.array_type(tissue, array)
    shape = (*channels, entry.height, entry.width)
    if found.shape != shape or np.dtype(found.dtype).name not in _TYPES[array]:
        raise TissueDataError(
            f"tissue {tissue}: {array} of {store.address} has shape {found.shape} and type "
            f"{found.dtype}, wanted {shape} and {' or '.join(_TYPES[array])}: the store was changed. "
            "Prepare it again."
        )
