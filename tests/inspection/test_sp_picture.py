"""Which SP channels people see, and how bright."""

from __future__ import annotations

import numpy as np

from tissueseg.contracts import Channel
from tissueseg.inspection.sp_picture import shown_channels, sp_picture
from tissueseg.store.planes import Tissue

from .conftest import Write

PANEL = (
    Channel("weak DNA", None, True),
    Channel("calm"),
    Channel("busy"),
    Channel("DNA", None, True),
)


def varied(tissue: Tissue, spreads: tuple[float, ...]) -> Tissue:
    noise = np.random.default_rng(0).standard_normal((len(spreads), 256, 256))
    return tissue._replace(sp=np.exp(4 + np.array(spreads)[:, None, None] * noise).astype("f4"))


def test_one_nuclear_channel_then_the_most_varied_over_the_tissues_asked_for(
    write: Write, tissue: Tissue
) -> None:
    tissues = {
        "a": varied(tissue, (0.1, 0.2, 0.3, 0.5)),
        "b": varied(tissue, (0.1, 0.9, 0.1, 0.5)),
    }
    store = write(tissues, panel=PANEL)
    assert shown_channels(store, ["a"]) == [3, 2, 1]
    assert shown_channels(store, ["a", "b"]) == [3, 1, 2]


def test_without_sp_nothing_is_shown(write: Write, tissue: Tissue) -> None:
    store = write({"a": tissue._replace(sp=None)})
    assert shown_channels(store, store.tissues) == []


def test_a_marker_too_rare_for_the_first_clip_is_shown_at_the_last(
    write: Write, tissue: Tissue
) -> None:
    sp = np.zeros((3, 256, 256), np.uint16)
    sp[1, :15, :15] = 900  # 0.3 % of the pixels
    store = write({"a": tissue._replace(sp=sp)})
    picture = sp_picture(store, "a", sp[[0, 1]], [0, 1])
    assert picture[5, 5].tolist() == [0, 255, 0]
    assert picture[100, 100].tolist() == [0, 0, 0]
