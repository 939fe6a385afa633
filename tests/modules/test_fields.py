"""Which fields are shown, and what there is to see in them."""

import numpy as np
import pytest
from stores import random_tissue, whole, write_store

from tissueseg.contracts import Channel
from tissueseg.modules.fields import open_fields


def test_fields_are_the_centre_of_the_first_tissues(make_run):
    run = make_run("split={train: 1, val: 2, test: 0}")
    fields = open_fields(run.data, ["classes"], count=5, size_px=32)
    assert [(f.name, f.tissue, f.y, f.x) for f in fields] == [("b", 0, 16, 16), ("c", 1, 16, 16)]
    for f in fields:
        np.testing.assert_array_equal(f.labels, whole(run.store, f.name, "instances")[16:48, 16:48])
        np.testing.assert_array_equal(f.classes, whole(run.store, f.name, "classes")[16:48, 16:48])
        he = whole(run.store, f.name, "he")[:, 16:48, 16:48]
        np.testing.assert_array_equal(f.images["H&E"], np.moveaxis(he, 0, -1))


def test_a_tissue_smaller_than_the_field_is_shown_whole(make_run):
    (field,) = open_fields(make_run().data, ["classes"], count=1, size_px=500)
    assert (field.y, field.x, field.labels.shape) == (0, 0, (64, 64))


def test_no_fields_when_none_are_asked_for(make_run):
    assert open_fields(make_run().data, ["classes"], 0, 64) == []


@pytest.mark.parametrize(("modality", "titles"), [("he", 1), ("sp", 1), ("he_sp", 2)])
def test_only_images_of_the_modality_are_shown(make_run, modality, titles):
    (field,) = open_fields(make_run(f"modality={modality}").data, ["classes"], 1, 64)
    assert len(field.images) == titles
    assert ("H&E" in field.images) == (modality != "sp")
    assert all(i.shape == (64, 64, 3) and i.dtype == np.uint8 for i in field.images.values())


def test_the_nuclear_stain_is_blue_and_the_most_varied_channels_follow(make_run, tmp_path):
    """DAPI is last in the panel; of the others, `busy` varies most and `flat` least."""
    panel = [Channel(name) for name in ("flat", "busy", "calm")] + [Channel("DAPI", None, True)]

    def tissue(seed):
        rng = np.random.default_rng(seed)
        scale = np.array([0.01, 2.0, 0.5, 1.0])[:, None, None]
        sp = np.exp(4 + scale * rng.standard_normal((4, 64, 64)))
        return random_tissue(64, 64, seed, sp=sp.astype(np.float32))

    store = write_store(
        tmp_path / "s.zarr", {n: tissue(i) for i, n in enumerate("abc")}, panel=panel
    )
    (field,) = open_fields(make_run("modality=sp", store=store).data, ["classes"], 1, 64)
    ((title, picture),) = field.images.items()
    assert title == "SP: DAPI blue, busy green, calm red"
    dapi, busy = whole(store, "b", "sp")[[3, 1]]
    for plane, channel in ((2, dapi), (1, busy)):
        assert (
            np.corrcoef(np.argsort(np.argsort(channel.ravel())), picture[..., plane].ravel())[0, 1]
            > 0.7
        )
