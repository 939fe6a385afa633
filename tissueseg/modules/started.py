"""What Lightning is told of processes that were started before it: by ours, `srun` or `torchrun`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

if TYPE_CHECKING:
    from tissueseg.ranks import Rank


class Started(ClusterEnvironment):
    """Takes the place of those that Lightning finds, which would requeue a SLURM job by themselves.

    Args:
        rank: of this process.
        nodes: machines.
    """

    def __init__(self, rank: Rank, nodes: int) -> None:
        super().__init__()
        self._rank, self._nodes = rank, nodes

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Of rank 0."""
        return self._rank.address

    @property
    def main_port(self) -> int:
        """Of rank 0."""
        return self._rank.port

    @staticmethod
    def detect() -> bool:
        """It is given, never found."""
        return False

    def world_size(self) -> int:
        """Of all machines."""
        return self._rank.of

    def set_world_size(self, size: int) -> None:
        """It is what it is."""

    def global_rank(self) -> int:
        """Of all machines."""
        return self._rank.number

    def set_global_rank(self, rank: int) -> None:
        """It is what it is."""

    def local_rank(self) -> int:
        """On its machine."""
        return self._rank.local

    def node_rank(self) -> int:
        """Of its machine."""
        return self._rank.number * self._nodes // self._rank.of
