"""TIFFs of whole slides: sizes, types, channels and scales that fit, and those that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_folders import CHANNELS, SlideFolder, SlideImages, read, refused

from tissueseg.errors import TissueDataError
from tissueseg.store.conversion import convert
from tissueseg.store.sources.orion import OrionSource


def test_images_of_two_resolutions_are_refused(folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_sp("a", slide.sp[:, ::2, ::2])
    message = "SP is 150 × 210 px, but H&E is 300 × 420 (height × width), 1 : 2.00: export both at"
    assert message in refused(folder)
    folder.save_sp("a", slide.sp)
    folder.save_labels("a", slide.labels[::4, ::4])
    message = "the label image is 75 × 105 px, but H&E is 300 × 420 (height × width), 1 : 4.00"
    assert message in refused(folder)
    folder.save_labels("a", slide.labels[1:, 2:])
    assert "H&E is 300 × 420 (height × width): crop or pad them to one frame" in refused(folder)
    folder.save_labels("a", slide.labels[:100])
    assert "they do not show the same field" in refused(folder)


def test_he_must_be_eight_bit_rgb(folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_he("a", slide.he.astype(np.uint16))
    assert "a.he.ome.tif: H&E has uint16 pixels, wanted 8-bit RGB" in refused(folder)
    tifffile.imwrite(folder.path / "a.he.ome.tif", slide.he[..., 0])
    assert "H&E has 1 channels, wanted 3 (RGB). Save it in colour" in refused(folder)
    tifffile.imwrite(folder.path / "a.labels.ome.tif", slide.he, photometric="rgb")
    folder.save_he("a", slide.he)
    assert "label image has 3 channels, wanted one integer per pixel" in refused(folder)


def test_jpeg_and_alpha_are_read(folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_he("a", slide.he, compression="jpeg")
    found = read(OrionSource(folder.path).open("a")).he
    whole_image = tifffile.imread(folder.path / "a.he.ome.tif")
    np.testing.assert_array_equal(found, np.moveaxis(whole_image, -1, 0), strict=True)
    opaque = np.concatenate([slide.he, np.full((300, 420, 1), 255, np.uint8)], axis=-1)
    folder.save_he("a", opaque, extrasamples=["unassalpha"])
    tissue = OrionSource(folder.path).open("a")
    np.testing.assert_array_equal(read(tissue).he, np.moveaxis(slide.he, -1, 0), strict=True)
    assert tissue.notices["alpha channel of H&E dropped"] == 1


def test_scale_comes_from_the_tiffs_unless_stated(folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_sp("a", slide.sp, mpp=0.325)
    message = (
        "contradictory µm/px at equal size, a.he.ome.tif 0.5, but a.sp.ome.tif 0.325: give mpp"
    )
    assert message in refused(folder)
    folder.describe(mpp=0.5)
    source = OrionSource(folder.path)
    assert source.scale("a") == 0.5
    assert "SP claims 0.325 µm/px, mpp=0.5 is used (tissue a)" in source.notices
    folder.describe(mpp="unknown")
    source = OrionSource(folder.path)
    assert source.scale("a") is None
    assert "SP claims 0.325 µm/px, mpp=unknown is used (tissue a)" in source.notices
    folder.save_sp("a", slide.sp, mpp=10_000)
    folder.describe()
    assert OrionSource(folder.path).scale("a") == 0.5
    folder.save_he("a", slide.he, mpp=None)
    assert "say no µm/px: give mpp, or mpp: unknown" in refused(folder)


def test_slides_that_differ_by_rounding_get_one_scale(
    folder: SlideFolder, slide: SlideImages
) -> None:
    for name, mpp in (("a", 0.5), ("b", 0.5002), ("c", 0.5001)):
        folder.add(name, slide)
        folder.save_he(name, slide.he, mpp=mpp)
    source = OrionSource(folder.path)
    assert {source.scale(name) for name in source.tissues} == {0.5001}
    assert any("differ by up to 0.04%: 0.5001 is used for all" in said for said in source.notices)
    folder.save_he("c", slide.he, mpp=0.25)
    folder.save_sp("c", slide.sp, mpp=0.25)
    assert OrionSource(folder.path).scale("c") == 0.25


def test_channels_must_be_named_once_and_alike(folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_sp("a", slide.sp, names=["DAPI", "CD3", "DAPI", "x", "y"])
    assert "names channels more than once: DAPI ×2" in refused(folder)
    folder.save_sp("a", slide.sp, names=None)
    assert "a.sp.ome.tif carries no channel names: list them in order" in refused(folder)
    assert "is described with 2 channels, but holds 5" in refused(folder, channels=["DAPI", "CD3"])
    folder.describe(channels=["DAPI", None, {"name": "CD8", "uniprot": "P01732"}, None, "x"])
    source = OrionSource(folder.path)
    assert [(c.name, c.uniprot) for c in source.panel] == [
        ("DAPI", "P68431"),
        ("CD8", "P01732"),
        ("x", None),
    ]
    np.testing.assert_array_equal(read(source.open("a")).sp, slide.sp[[0, 2, 4]], strict=True)
    folder.add("a", slide)
    folder.add("b", slide)
    folder.save_sp("b", slide.sp, names=CHANNELS[::-1])
    assert "slide b: " in refused(folder)
    assert "all slides need the same channels in the same order" in refused(folder)


def test_pages_without_names_are_channels_when_they_are_listed(
    folder: SlideFolder, slide: SlideImages
) -> None:
    path = folder.path / "a.sp.ome.tif"
    tifffile.imwrite(path, slide.sp, ome=False, metadata=None, photometric="minisblack")
    assert "nothing says that the 5 planes are channels" in refused(folder)
    folder.describe(channels=list(CHANNELS))
    found = read(OrionSource(folder.path).open("a")).sp
    np.testing.assert_array_equal(found, slide.sp, strict=True)


@pytest.mark.parametrize(
    ("dtype", "stored"), [("f4", "f4"), ("u1", "u1"), ("i2", "f4"), ("f8", "f4")]
)
def test_types_of_the_sp_image(
    dtype: str, stored: str, folder: SlideFolder, slide: SlideImages
) -> None:
    image = (slide.sp // 500).astype(dtype)
    folder.save_sp("a", image)
    tissue = OrionSource(folder.path).open("a")
    np.testing.assert_array_equal(read(tissue).sp, image.astype(stored), strict=True)
    converted = [said for said in tissue.notices if said.startswith("SP intensities converted")]
    assert len(converted) == (dtype != stored)


def test_sp_alone_with_one_class(folder: SlideFolder, slide: SlideImages) -> None:
    folder.describe(
        images={"sp": "{id}.sp.ome.tif"},
        masks={"instances": "{id}.labels.ome.tif"},
        classes=None,
        untyped=None,
    )
    source = OrionSource(folder.path)
    assert source.images == ("sp",)
    assert [c.name for c in source.classes] == ["background", "nucleus"]
    found = read(source.open("a"))
    assert found.he is None
    np.testing.assert_array_equal(found.classes, slide.labels > 0)


@pytest.mark.parametrize("dtype", ["u2", "i4", "u4", "f4", "f8"])
def test_types_of_the_label_image(dtype: str, folder: SlideFolder, slide: SlideImages) -> None:
    folder.save_labels("a", slide.labels.astype(dtype))
    found = read(OrionSource(folder.path).open("a"))
    assert found.instances.dtype.kind in "iu"
    np.testing.assert_array_equal(found.instances, slide.labels)
    np.testing.assert_array_equal(found.classes, slide.classes)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_labels_that_are_not_whole_are_refused(
    value: float, folder: SlideFolder, slide: SlideImages
) -> None:
    labels = slide.labels.astype(np.float32)
    labels[100, 100] = value
    folder.save_labels("a", labels)
    with pytest.raises(TissueDataError, match=f"labels.ome.tif holds {value:g}, wanted whole"):
        read(OrionSource(folder.path).open("a"))


@pytest.mark.parametrize(
    ("dtype", "value", "said"), [("i4", -4, "instance ids are -4"), ("u4", 2**31, "2147483648")]
)
def test_labels_no_store_takes_are_refused_by_it(
    dtype: str, value: int, said: str, folder: SlideFolder, slide: SlideImages, tmp_path: Path
) -> None:
    labels = slide.labels.astype(dtype)
    labels[100, 100] = value
    folder.save_labels("a", labels)
    with pytest.raises(TissueDataError, match=said):
        convert(OrionSource(folder.path), tmp_path / "out.zarr")


def test_class_images_and_foreground_masks_are_no_instances(
    folder: SlideFolder, slide: SlideImages
) -> None:
    folder.save_labels("a", (slide.labels > 0).astype(np.uint8) * 255)
    with pytest.raises(TissueDataError, match="looks like a foreground mask"):
        read(OrionSource(folder.path).open("a"))
    folder.save_labels("a", slide.labels % 7)
    with pytest.raises(TissueDataError, match="looks like a class image"):
        read(OrionSource(folder.path).open("a"))


def test_damaged_slides_are_named(folder: SlideFolder) -> None:
    path = folder.path / "a.sp.ome.tif"
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[3]
    content[start : start + 2000] = bytes(2000)
    path.write_bytes(content)
    source = OrionSource(folder.path)
    with pytest.raises(TissueDataError, match=r"a\.sp\.ome\.tif cannot be read, is it damaged"):
        read(source.open("a"))
    path.write_bytes(content[:100])
    assert "a.sp.ome.tif cannot be read, is it damaged" in refused(folder)


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "labels", "options"),
    [
        ("mx_mibi_dcis", "{id}.inst_nuclei.tif", "mpp: 0.5"),
        ("paired_he_mif", "{id}.nuclei.tif", "tissues: [r11053_43924_t13]\nmpp: 0.5"),
    ],
)
def test_real_images_as_slides(
    folder: str, labels: str, options: str, shared_data: Path, tmp_path: Path
) -> None:
    image = "{id}.mif.ome.tif" if folder == "paired_he_mif" else "{id}.ome.tif"
    text = f'images: {{sp: "{image}"}}\nmasks: {{instances: "{labels}"}}\n{options}\n'
    (tmp_path / "slides.yaml").write_text(text + "regions: {size_px: 300, min_cells: 5}\n")
    source = OrionSource(shared_data / folder, tmp_path / "slides.yaml")
    assert len(source.tissues) > 2
    for name in source.tissues[:4]:
        slide = name.rsplit("_", 2)[0]
        y, x, height, width = source.open(name).region.window
        part = (..., slice(y, y + height), slice(x, x + width))
        found = read(source.open(name))
        pixels = tifffile.imread(shared_data / folder / image.format(id=slide))
        instances = tifffile.imread(shared_data / folder / labels.format(id=slide))
        np.testing.assert_array_equal(found.sp, pixels[part], strict=True)
        np.testing.assert_array_equal(found.instances, instances[part], strict=True)
        assert np.unique(found.instances).size > 5
