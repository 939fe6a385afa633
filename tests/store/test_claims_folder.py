"""Claims by what disks and folders do: full, read-only, gone, without hard links, other names."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from claims_made import files, take

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.claims import Claims


@pytest.mark.parametrize("name", ["", "../t", "a/b", ".t", "_t"])
def test_what_is_no_name_of_a_tissue_is_refused(worker: Callable[..., Claims], name: str) -> None:
    with pytest.raises(TissueDataError, match="plain name"):
        worker().take(name)


@pytest.mark.parametrize(("patience_s", "beat_s"), [(1.0, 0.6), (1.0, 0.0), (0.0, 0.0)])
def test_heart_that_beats_too_slowly_is_refused(
    tmp_path: Path, patience_s: float, beat_s: float
) -> None:
    with pytest.raises(ConfigError, match="lower beat_s or raise patience_s"):
        Claims(tmp_path, patience_s, beat_s)


def test_folder_that_is_read_only_is_said_in_one_line(worker: Callable[..., Claims]) -> None:
    claims = worker()
    claims.folder.chmod(0o555)
    if os.access(claims.folder, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(TissueDataError, match=r"Permission denied.*choose another\.$") as error:
        claims.take("t")
    claims.folder.chmod(0o755)
    assert "\n" not in str(error.value)


def test_folder_that_is_gone_or_a_file_is_said_in_one_line(
    worker: Callable[..., Claims], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TissueDataError, match="file cannot hold claims"):
        Claims(tmp_path / "file")
    claims = worker()
    claim = take(claims)
    shutil.rmtree(claims.folder)
    assert not claim.held()
    with pytest.raises(TissueDataError, match="No such file") as error:
        claims.take("t")
    assert "\n" not in str(error.value)


def test_claim_that_a_full_disk_cut_short_is_given_back(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    claims = worker()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(TissueDataError, match="No space left on device"):
            claims.take("t")
    assert files(claims) == []
    assert take(worker()).path.name == "1.claim"


def test_the_names_of_others_are_not_looked_through(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    claims, listed = worker(), []
    for number in range(50):
        take(claims, f"other {number}").release()
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path.name) or listing(path))
    take(claims).release()
    assert set(listed) == {"t"}


def test_numbers_of_a_released_name_go_on(worker: Callable[..., Claims]) -> None:
    for generation in (1, 2, 3):
        with worker() as claims:
            take(claims)
        assert files(claims) == [f"t/{generation}.free"]


def test_disks_without_hard_links_hold_claims_too(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    one, other = worker(), worker()
    claim = one.take("a")
    assert claim is not None
    assert claim.held()
    assert other.take("a") is None
    assert files(one) == ["a/1.claim"]
