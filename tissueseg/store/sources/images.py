"""Single image files as one tissue without labels, shaped to what a trained network was given.

Whoever has one slide and a network has no description to write: what a store's description states is
taken from the network's data (channels and their order, classes, µm per pixel) and from the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tissueseg.contracts import Channel, DataSpec
from tissueseg.errors import SpecMismatchError, TissueDataError
from tissueseg.numbers import check_number
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Planes, Window
from tissueseg.store.reading.claims import (
    COARSEST_MPP,
    FINEST_MPP,
    MPP_TOLERANCE,
    compare_claims,
)
from tissueseg.store.reading.rasters import ALPHA_DROPPED, ARRAY_SUFFIXES, check_he, storable
from tissueseg.store.reading.tables import plain_id
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.reading.whole import WholeImage, is_windowed, open_image
from tissueseg.store.sizes import check_sizes
from tissueseg.store.sources.channels import ChannelList, complete
from tissueseg.store.sources.panel_match import PanelMatch, match_panel

SAME_SCALE = 0.01
"""Relative difference of µm/px that pixels are not resampled for."""

_SHOWN_AS = {"he": "H&E", "sp": "SP"}
_IS_HE = " Is it the H&E image?"


class ImagesSource:
    """H&E, SP or both of one tissue.

    Args:
        he: H&E image; None: the network sees none.
        sp: SP image of the same size; None: the network sees none.
        wanted: data of the network: modality, panel, classes and µm per pixel.
        mpp: µm per pixel of the files; None: they say it.
        channels: names of the SP file's channels in order, None for those to leave out; None: the file
            says them.

    Raises:
        SpecMismatchError: H&E for a network of SP, or the other way round, or one of two is missing.
        TissueDataError: a file that is missing, no image, of the wrong kind, or does not fit the other.
        ConfigError: `mpp` or `channels` that cannot be used.
    """

    def __init__(
        self,
        he: Path | None,
        sp: Path | None,
        wanted: DataSpec,
        mpp: float | None = None,
        channels: Sequence[Any] | None = None,
    ) -> None:
        given = {"he": he, "sp": sp}
        self._paths = {kind: Path(path) for kind, path in given.items() if path is not None}
        _check_kinds(self._paths, wanted)
        listed = ChannelList.parse(None if channels is None else list(channels), "image.channels")
        count = None if listed.listed is None else len(listed.listed)
        if count is None and (path := self._paths.get("sp")) and not is_windowed(path):
            picture = path.suffix.lower() not in ARRAY_SUFFIXES
            raise _nameless(path, "its channels", _IS_HE if picture else "")
        self._images = {
            kind: open_image(path, count if kind == "sp" else 3)
            for kind, path in self._paths.items()
        }
        self.wanted, self.images = wanted, tuple(self._images)
        self.classes, self.panel = wanted.classes, wanted.panel
        self.moments: Mapping[str, Mapping[str, Sequence[float]]] = MappingProxyType({})
        self.notices: Sequence[str] = ()  # all of them are the tissue's
        first = next(iter(self._paths.values()))
        self.tissues = (plain_id(_stem(first), str(first)),)
        self._found = Notices()
        self._positions = self._check_images(listed)
        claims = {kind: image.mpp for kind, image in self._images.items()}
        self._scale = self._settle_scale(claims, mpp)

    def scale(self, tissue: str) -> float | None:
        """µm per pixel: the network's if it is nearly that, or the network knows none."""
        return self._scale

    def files(self, tissue: str) -> dict[str, Path]:
        """The image files, by their kind."""
        return dict(self._paths)

    def open(self, tissue: str) -> ImageTissue:
        """The tissue; of TIFFs no pixel is read yet."""
        size = next(iter(self._images.values())).size
        return ImageTissue(size, self._images, self._positions, dict(self._found.found))

    def _check_images(self, listed: ChannelList) -> tuple[int, ...]:
        """Positions of the panel's channels in the SP image, once kinds and sizes are right."""
        positions: tuple[int, ...] = ()
        if he := self._images.get("he"):
            check_he(he.path, he.dtype, he.channels)
            self._found.count(ALPHA_DROPPED, int(he.channels > 3))
        if sp := self._images.get("sp"):
            if (stored := storable(sp.dtype, sp.path)) != sp.dtype:
                self._found.count(f"SP intensities converted from {sp.dtype} to {stored}")
            match = _match(sp, listed, self.wanted.panel)
            positions = match.positions
            for note in match.notes:
                self._found.count(note.replace("{", "{{").replace("}", "}}"))
        check_sizes(
            f"tissue {self.tissues[0]}",
            {f"the {_SHOWN_AS[kind]} image": image.size for kind, image in self._images.items()},
        )
        return positions

    def _settle_scale(
        self, claims: Mapping[str, float | None], stated: float | None
    ) -> float | None:
        """µm per pixel of the files, in the network's words where both mean the same."""
        if stated is not None:
            check_number("image.mpp", stated, FINEST_MPP, COARSEST_MPP, note="µm per pixel")
        wanted, known = self.wanted.mpp, {kind: claim for kind, claim in claims.items() if claim}
        if wanted is None:
            self._found.count(
                "pixels are taken as they are: the network was trained at no known µm/px"
            )
            return None
        if stated is not None:
            compare_claims({_SHOWN_AS[kind]: c for kind, c in known.items()}, stated, self._found)
        found = stated if stated is not None else self._claimed(known, wanted)
        if abs(found / wanted - 1) > SAME_SCALE:
            return float(found)
        self._found.count(f"{found:g} µm/px is taken for {wanted:g}", int(found != wanted))
        return wanted

    def _claimed(self, known: Mapping[str, float], wanted: float) -> float:
        """What the files say, once they agree."""
        names = " and ".join(str(path) for path in self._paths.values())
        if not known:
            raise TissueDataError(
                f"{names} does not say its µm/px, and the network was trained at {wanted:g}: give "
                "image.mpp=…, the µm per pixel of the file."
            )
        if max(known.values()) / min(known.values()) - 1 > MPP_TOLERANCE:
            said = ", but ".join(f"{_SHOWN_AS[kind]} {mpp:g}" for kind, mpp in known.items())
            raise TissueDataError(
                f"{names} contradict each other on µm/px ({said}): give image.mpp=…, that of both."
            )
        return next(iter(known.values()))


@dataclass(frozen=True)
class ImageTissue:
    """Images without labels, read by window; see `tissueseg.store.planes.LazyTissue`."""

    shape: tuple[int, int]
    sources: Mapping[str, TiffImage | WholeImage]  # of he and sp, what there is
    positions: Sequence[int]  # of the SP image's channels, those to take, in order
    notices: Mapping[str, int]
    patient: str | None = None
    split: str | None = None
    clips: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """Which of `he` and `sp` it has."""
        return tuple(self.sources)

    def read(self, window: Window) -> Planes:
        """Pixels of a window."""
        he, sp = self.sources.get("he"), self.sources.get("sp")
        return Planes(
            he=None if he is None else he.read(window)[:3],
            sp=None
            if sp is None
            else sp.read(window, self.positions).astype(storable(sp.dtype, sp.path), copy=False),
        )


def _check_kinds(paths: Mapping[str, Path], wanted: DataSpec) -> None:
    """Refuse images that the network was not trained on, and ones it cannot do without."""
    needed = wanted.modality.images
    named = " and ".join(_SHOWN_AS[kind] for kind in needed)
    for kind, path in paths.items():
        if kind not in needed:
            raise SpecMismatchError(
                f"{path} is given as {_SHOWN_AS[kind]}, but the network was trained on {named}: give "
                f"{' and '.join(f'image.{n}=…' for n in needed)} alone, or another network."
            )
    if missing := [kind for kind in needed if kind not in paths]:
        raise SpecMismatchError(
            f"the network was trained on {named}, but no {_SHOWN_AS[missing[0]]} image is given: add "
            f"image.{missing[0]}=FILE."
        )


def _match(
    image: TiffImage | WholeImage, listed: ChannelList, panel: Sequence[Channel]
) -> PanelMatch:
    """The panel's channels in an SP image, by the names that are listed or that it carries."""
    names, held = image.names, image.channels
    if listed.listed is not None:
        found, whose = listed.panel(names, str(image.path)), "image.channels lists"
    elif names is None:
        hint = _IS_HE if held in (3, 4) and image.dtype.itemsize == 1 else ""
        raise _nameless(image.path, f"its {held} channels", hint)
    else:
        found, whose = tuple(complete(name) for name in names), "it names"
    if len(found) != held:
        raise TissueDataError(
            f"{image.path} holds {held} channels, but {whose} {len(found)}: list all of them in order as "
            "image.channels=[…], null for those to leave out."
        )
    return match_panel(panel, found, str(image.path))


def _nameless(path: Path, what: str, hint: str = "") -> TissueDataError:
    return TissueDataError(
        f"{path} carries no names for {what}: list them in order as image.channels=[…], null for those "
        f"to leave out.{hint}"
    )


def _stem(path: Path) -> str:
    """The name of a file without `.tif`, `.ome.tif` and the like."""
    return path.stem.removesuffix(".ome").removesuffix(".OME")
