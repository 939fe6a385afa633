"""How far the encoding of tissues is, as it goes."""

from __future__ import annotations

import time

from rich.console import Console


class Progress:
    """Tiles per second and the time that is left: a bar on a terminal, else a line for every tissue.

    Args:
        console: where it goes.
        tiles: to be encoded, or there already.
    """

    def __init__(self, console: Console, tiles: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} tiles/s"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("encoding", total=tiles, rate="")
        self._console, self._tissue = console, ""
        self._left, self._done, self._began = tiles, 0, time.monotonic()

    def tell(self, tissue: str, tiles: int, encoded: bool) -> None:
        """Take note of tiles of a tissue."""
        self._left -= tiles
        self._done += tiles if encoded else 0
        if tissue != self._tissue and encoded and not self._console.is_terminal:
            self._console.print(f"encoding {tissue}{self._outlook()}", highlight=False)
        self._tissue = tissue
        self._bar.update(self._task, advance=tiles, description=tissue, rate=f"{self.rate:.1f}")

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Tiles encoded per second."""
        return self._done / max(self.seconds, 1e-9)

    def _outlook(self) -> str:
        if not self._done or not self._tissue:
            return ""
        return f" ({self.rate:.1f} tiles/s, {self._left / self.rate:.0f} s to go)"

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
