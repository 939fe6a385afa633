"""How far the prediction of a tissue is: in mm², or megapixels where the scale is not known."""

from __future__ import annotations

import time

from rich.console import Console


class PixelProgress:
    """A bar on a terminal, and a line for every tissue.

    Args:
        console: where it goes.
        tissue: its name.
        pixels: it has.
        mpp: µm per pixel; None: not known.
    """

    def __init__(self, console: Console, tissue: str, pixels: int, mpp: float | None) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._unit, scale = ("Mpx", 1e-6) if mpp is None else ("mm²", mpp**2 * 1e-6)
        self._console, self._tissue, self._scale = console, tissue, scale
        self._pixels, self._done, self._began = pixels, 0, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(tissue, total=pixels, rate="")

    def tell(self, pixels: int) -> None:
        """Take note of pixels that the network is done with."""
        self._done += pixels
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = f"{self._done * self._scale / seconds:.3g} {self._unit}/s"
        self._bar.update(self._task, advance=pixels, rate=rate)

    def done(self, cells: int, seconds: float, network_s: float) -> None:
        """Say what came of the tissue."""
        area = self._pixels * self._scale
        rate = f"{area / max(seconds, 1e-9):.3g} {self._unit}/s"
        self._console.print(
            f"{self._tissue}: {cells:,} cells in {area:.3g} {self._unit}, {seconds:.1f} s "
            f"({rate}; {network_s:.1f} s of it the network)",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

    def __enter__(self) -> PixelProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
