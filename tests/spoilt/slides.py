"""Whole slides that contradict each other or their tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from slide_folders import CHANNELS, SlideFolder, draw_slide

from spoilt.spoiling import Case, Spoil

SLIDE = draw_slide(96, 128)


def healthy(path: Any) -> SlideFolder:
    """One slide of 96 × 128 px."""
    folder = SlideFolder(path)
    folder.add("a", SLIDE)
    folder.describe()
    return folder


def slides(spoil: Spoil, *says: str, options: tuple[str, ...] = ()) -> Case:
    return Case(spoil, says, ("source=orion", *options), healthy)


def describe(**changes: Any) -> Spoil:
    return lambda folder: folder.describe(**changes)


def listed(*lines: str, **changes: Any) -> Spoil:
    """A table of slides in place of patterns."""

    def spoil(folder: SlideFolder) -> None:
        folder.write("slides.csv", *lines)
        folder.describe(slides="slides.csv", images=None, masks=None, **changes)

    return spoil


def regions(*lines: str) -> Spoil:
    def spoil(folder: SlideFolder) -> None:
        folder.write("regions.csv", "slide,region,x,y,width,height", *lines)
        folder.describe(regions={"table": "regions.csv"})

    return spoil


def cut_short(folder: SlideFolder) -> None:
    path = folder.path / "a.sp.ome.tif"
    path.write_bytes(path.read_bytes()[:-20_000])


def contradicting_scales(folder: SlideFolder) -> None:
    folder.save_he("a", SLIDE.he, mpp=0.25)


def no_scales(folder: SlideFolder) -> None:
    folder.save_he("a", SLIDE.he, mpp=None)
    folder.save_sp("a", SLIDE.sp, mpp=None)


def half_size(folder: SlideFolder) -> None:
    folder.save_sp("a", SLIDE.sp[:, ::2, ::2], mpp=1.0)


def time_series(folder: SlideFolder) -> None:
    image = SLIDE.sp[:4].reshape(2, 2, *SLIDE.sp.shape[1:])
    path = folder.path / "a.sp.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "TCYX"}, photometric="minisblack")


def one_strip(folder: SlideFolder) -> None:
    """A page of 68 MB in one compressed piece."""
    image = np.zeros((4, 4200, 4200), np.uint32)
    folder.save_sp("a", image, names=CHANNELS[:4], tile=None, rowsperstrip=4200)
    folder.describe(images={"sp": "{id}.sp.ome.tif"}, regions={"size_px": 64})
    folder.save_labels("a", image[0], tile=(512, 512))


HEADER = "id,he,sp,labels,cells"
ROW = "a,a.he.ome.tif,a.sp.ome.tif,a.labels.ome.tif,a.csv"

SLIDES = {
    "slide cut short": slides(cut_short, "a.sp.ome.tif", "cannot be read"),
    "slide that is text": slides(
        lambda f: (f.path / "a.he.ome.tif").write_text("<html>"), "a.he.ome.tif", "cannot be read"
    ),
    "H&E and SP of other resolutions": slides(half_size, "96 × 128", "48 × 64", "1 : 2.00"),
    "labels at another resolution": slides(
        lambda f: f.save_labels("a", SLIDE.labels[::2, ::2]), "96 × 128", "48 × 64", "1 : 2.00"
    ),
    "contradictory µm/px": slides(contradicting_scales, "a.he.ome.tif", "0.25", "0.5", "mpp"),
    "no µm/px anywhere": slides(no_scales, "µm/px", "mpp"),
    "slide over time": slides(time_series, "a.sp.ome.tif", "TCYX", "one plane per channel"),
    "slide in one piece": slides(one_strip, "a.sp.ome.tif", "in pieces of", "bfconvert"),
    "slide without channel names": slides(
        lambda f: f.save_sp("a", SLIDE.sp, names=None), "a.sp.ome.tif", "channel names"
    ),
    "slide with one name for two channels": slides(
        lambda f: f.save_sp("a", SLIDE.sp, names=["DNA", "DNA", *CHANNELS[2:]]), "DNA ×2"
    ),
    "negative labels of a slide": slides(
        lambda f: f.save_labels("a", -SLIDE.labels), "instance ids are", "relabel"
    ),
    "labels of a slide that are fractions": slides(
        lambda f: f.save_labels("a", SLIDE.labels / np.float32(2)),
        "a.labels.ome.tif",
        "whole numbers",
    ),
    "class image as labels of a slide": slides(
        lambda f: f.save_labels("a", (SLIDE.labels > 0).astype(np.int32)), "a.labels.ome.tif"
    ),
    "cells without type": slides(describe(untyped="error"), "instances without class", "untyped"),
    "class mask of a slide": slides(
        describe(masks={"instances": "{id}.labels.ome.tif", "classes": "{id}.tif"}),
        "slides.yaml",
        "classes",
    ),
    "slide outside the folder": slides(
        listed(HEADER, ROW.replace("a.he", "../a.he")), "slides.csv line 2", "../a.he.ome.tif"
    ),
    "slide by absolute path": slides(
        listed(HEADER, ROW.replace("a.sp", "/etc/a.sp")), "slides.csv line 2", "/etc/a.sp.ome.tif"
    ),
    "slide that is not there": slides(listed(HEADER, ROW.replace("a.sp", "b.sp")), "b.sp.ome.tif"),
    "table of slides without ids": slides(listed(HEADER[3:], ROW[2:]), "slides.csv", "id"),
    "slide listed twice": slides(listed(HEADER, ROW, ROW), "slides.csv", "'a' twice"),
    "region outside its slide": slides(
        regions("a,r,100,0,64,64"), "regions.csv line 2", "96 × 128"
    ),
    "region of another slide": slides(regions("b,r,0,0,64,64"), "regions.csv line 2", "'b'"),
    "region that is no number": slides(regions("a,r,zero,0,64,64"), "regions.csv line 2", "'zero'"),
    "region that leads elsewhere": slides(
        regions("a,../r,0,0,64,64"), "regions.csv line 2", "../r"
    ),
    "two regions of one name": slides(
        regions("a,r,0,0,32,32", "a,r,32,0,32,32"), "regions.csv line 3", "a_r"
    ),
    "regions of no size": slides(describe(regions={"size_px": 0}), "regions.size_px is 0"),
    "regions with more cells than there are": slides(
        describe(regions={"size_px": 64, "min_cells": 10_000}), "no region of", "min_cells"
    ),
}
