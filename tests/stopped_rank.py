"""`train` as one process of several, told to stop at a place; to be run by itself.

Arguments: epoch, batch, side and number of a signal, of which 0 is none; then words of the command.
"""

from __future__ import annotations

import sys

from stopped_runs import Place, watched

from tissueseg.train import main


def stopped_main(epoch: str, batch: str, side: str, number: str) -> None:
    """Run the command, and send this process the signal when it comes to the place."""
    stop = {Place(int(epoch), int(batch), side): int(number)} if int(number) else {}
    with watched(stop):
        main()


if __name__ == "__main__":
    place, sys.argv[1:] = sys.argv[1:5], sys.argv[5:]
    stopped_main(*place)
