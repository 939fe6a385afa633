"""SP channels that are dead, weak or cut off at the top."""

from __future__ import annotations

import numpy as np
import pytest

from tissueseg.inspection.findings import Finding
from tissueseg.inspection.intensities import channel_findings
from tissueseg.store.planes import Tissue

from .conftest import Write


def with_channel(tissue: Tissue, plane: np.ndarray | int, dtype: type = np.uint16) -> Tissue:
    """The tissue with another second channel, CD45."""
    assert tissue.sp is not None
    sp = tissue.sp.astype(dtype)
    sp[1] = plane
    return tissue._replace(sp=sp)


def found(write: Write, *tissues: Tissue) -> list[Finding]:
    names = dict(zip("abcd", tissues, strict=False))
    return list(channel_findings(write(names)))


def test_healthy_channels_are_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    assert found(write, *drawn) == []


def test_a_store_without_sp_has_no_channels_to_check(write: Write, tissue: Tissue) -> None:
    assert found(write, tissue._replace(sp=None)) == []


@pytest.mark.parametrize("level", [0, 700])
def test_a_channel_that_is_constant_everywhere_is_dead(
    write: Write, drawn: tuple[Tissue, ...], level: int
) -> None:
    (finding,) = found(write, *(with_channel(t, level) for t in drawn))
    assert (finding.level, finding.check, finding.tissues) == (
        "warning",
        "dead channel",
        ("a", "b", "c"),
    )
    assert "SP channel CD45 has no variance below the 0.99 quantile in 3 of 3" in finding.says
    assert "below the 0.999 quantile in 3" in finding.says
    assert "order of its planes" in finding.says


def test_a_rare_marker_is_weak_where_it_is_absent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    rare = np.zeros((256, 256))
    rare[:15, :15] = 900  # 0.3 % of the pixels
    (finding,) = found(write, with_channel(drawn[0], rare), *drawn[1:])
    assert (finding.level, finding.check, finding.tissues) == ("notice", "weak channel", ("a",))
    assert "in 1 of 3 (tissue a), below the 0.999 quantile in 0" in finding.says


def test_channels_dead_in_the_same_tissues_make_one_line(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    dead = (t._replace(sp=t.sp * np.array([1, 0, 0], np.uint16)[:, None, None]) for t in drawn)  # pyright: ignore
    (finding,) = found(write, *dead)
    assert finding.says.startswith("SP channels CD45, Pan-CK have no variance")


@pytest.mark.parametrize(
    ("dtype", "limit"), [(np.uint16, 65535), (np.uint8, 255), (np.uint16, 900), (np.float32, 1.0)]
)
def test_a_plateau_at_the_top_is_saturation(
    write: Write, drawn: tuple[Tissue, ...], dtype: type, limit: float
) -> None:
    plane = np.linspace(0, 1.2 * limit, 256 * 256).reshape(256, 256)
    clipped = np.minimum(plane, limit).astype(dtype)
    scale = 255 / 65535 if dtype == np.uint8 else 1
    tissues = [t._replace(sp=(t.sp * scale).astype(dtype)) for t in drawn[:2]]
    findings = found(write, with_channel(tissues[0], clipped, dtype), tissues[1])
    (finding,) = [f for f in findings if f.check == "saturation"]
    assert finding.level == "warning"
    assert "saturated pixels of SP channel CD45 in tissue a: 1" in finding.says
    assert f"at the highest value, {limit:g}" in finding.says


def test_few_counts_at_their_highest_are_no_saturation(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    counts = np.arange(256 * 256).reshape(256, 256) % 4  # a quarter of the pixels at 3
    assert found(write, with_channel(drawn[0], counts)) == []
