"""What only shows between tissues: repeats, leaks, patients and classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tissueseg.inspection.cohort import cohort_findings
from tissueseg.inspection.findings import Finding
from tissueseg.inspection.masks import measure_masks
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store.demo import CLASSES
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

from .conftest import SMALL_PANEL, Write

BINARY = {"classes": (*CLASSES[:1], replace(CLASSES[1], name="cell"))}
"""One class that every tissue has, so that classes are not what is found."""


def cohort(write: Write, tissues: dict[str, Tissue], **options: object) -> list[Finding]:
    cells = {
        name: t._replace(classes=(t.instances > 0).astype(np.uint8)) for name, t in tissues.items()
    }
    return judged(write(cells, **BINARY, **options))


def judged(store: TissueStore) -> list[Finding]:
    return list(
        cohort_findings(store, {t: measure_masks(TissuePixels(store, t)) for t in store.tissues})
    )


def test_a_healthy_cohort_is_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    split = ("train", "train", "test")
    tissues = (t._replace(split=s) for t, s in zip(drawn, split, strict=True))
    assert cohort(write, dict(zip("abc", tissues, strict=True))) == []


def test_one_tissue_twice_is_said_once(write: Write, drawn: tuple[Tissue, ...]) -> None:
    (finding,) = cohort(write, {"a": drawn[0], "b": drawn[1], "again": drawn[0]})
    assert (finding.level, finding.check) == ("warning", "repeated tissue")
    assert finding.says.startswith("one H&E image in tissues a, again: keep one")
    assert finding.tissues == ("a", "again")


def test_one_image_under_two_patients_is_a_leak(write: Write, drawn: tuple[Tissue, ...]) -> None:
    twin = drawn[1]._replace(sp=drawn[0].sp)  # H&E and masks of its own
    (finding,) = cohort(write, {"a": drawn[0], "b": twin})
    assert finding.says.startswith("one SP image in tissues a, b of 2 patients, so that training")


def test_masks_copied_to_another_tissue_are_found(write: Write, drawn: tuple[Tissue, ...]) -> None:
    copied = drawn[1]._replace(instances=drawn[0].instances)
    (finding,) = cohort(write, {"a": drawn[0], "b": copied})
    assert finding.says.startswith("one instance mask in tissues a, b")


def test_masks_without_a_cell_are_no_repeat(write: Write, drawn: tuple[Tissue, ...]) -> None:
    nothing = np.zeros_like(drawn[0].instances)
    empty = {name: drawn[i]._replace(instances=nothing) for i, name in enumerate("ab")}
    assert not [f for f in cohort(write, empty) if f.check == "repeated tissue"]


def test_a_patient_on_two_sides_of_the_split(write: Write, drawn: tuple[Tissue, ...]) -> None:
    sides = zip(drawn, ("p", "p", "q"), ("train", "test", "test"), strict=True)
    tissues = [t._replace(patient=patient, split=split) for t, patient, split in sides]
    (finding,) = cohort(write, dict(zip("abc", tissues, strict=True)))
    assert (finding.level, finding.check, finding.tissues) == ("warning", "split", ("a", "b"))
    assert (
        "1 of 2 patients lie on several sides of the stored split: p (test, train);" in finding.says
    )


def test_tissues_that_are_all_their_own_patient(write: Write, drawn: tuple[Tissue, ...]) -> None:
    alone = [t._replace(patient=None) for t in drawn]
    (finding,) = cohort(write, dict(zip("abc", alone, strict=True)))
    assert (finding.level, finding.check) == ("notice", "patients")
    assert "each of the 3 tissues" in finding.says
    assert cohort(write, {"a": alone[0]}) == []  # a single tissue has nothing to leak into


def test_classes_without_a_cell_and_with_one_patient(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    """`missing` is nowhere, `region` has pixels, `rare` one patient, `cell` every one."""
    names = ("background", "cell", "rare", "region", "missing")
    table = [replace(CLASSES[i], name=name) for i, name in enumerate(names)]
    first, second = (t._replace(classes=(t.instances > 0).astype(np.uint8)) for t in drawn[:2])
    first.classes[first.instances == first.instances.max()] = 2
    y, x = np.argwhere(first.instances == 0)[0]
    first.classes[y, x] = 3
    findings = judged(write({"a": first, "b": second}, classes=table))
    assert [(f.level, f.says.split(":")[0]) for f in findings] == [
        ("warning", "no cell of class missing in any tissue"),
        ("notice", "class region has pixels but no cell in any tissue"),
        ("notice", "in one patient only"),
    ]
    assert "class rare (p_0); no split by patient" in findings[-1].says


def test_images_that_cannot_be_compared_are_said_once(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    panel = tuple(replace(channel, nuclear=False) for channel in SMALL_PANEL)
    (finding,) = cohort(write, dict(zip("ab", drawn, strict=False)), panel=panel)
    assert (finding.level, finding.check) == ("notice", "registration")
    assert "nuclear: true" in finding.says
