"""Lightning's Trainer as runs use it: one or several processes, few words, no hand on SIGTERM."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.building import build
from tissueseg.composition import plain
from tissueseg.data.feeding import Loading
from tissueseg.modules.started import Started
from tissueseg.ranks import Rank, computes_on_cuda

_EVERY_TILE = {"limit_val_batches": 1.0, "limit_test_batches": 1.0}


def build_trainer(
    config: DictConfig,
    console: Console,
    callbacks: Sequence[Any],
    loggers: Sequence[Any] = (),
    every_tile: bool = False,
    rank: Rank | None = None,
    states: CheckpointIO | None = None,
) -> Trainer:
    """Lightning's Trainer, with a progress bar where there is a terminal to draw it on.

    Args:
        config: of the run.
        console: where progress goes.
        callbacks: of the run.
        loggers: none for passes that only score.
        every_tile: score whole sides, whatever a fit was limited to.
        rank: of this process among several; None: it is alone.
        states: keeps the state of a fit; None: nothing is kept.
    """
    quiet_lightning()
    bar = [RichProgressBar()] if console.is_terminal and not console.quiet else []
    processes = rank.of if rank else 1
    loading = Loading(**plain(config.data))
    made: dict[str, Any] = {"plugins": [states] if states else []}
    nodes = config.trainer.get("num_nodes", 1)
    made["plugins"].append(Started(rank or Rank(), nodes))
    if rank is not None:
        if not OmegaConf.is_list(config.trainer.devices):  # which names them
            made["devices"] = processes // nodes
        # Statistics are shared, or sent around before a validation; not in every pass, of which
        # processes make different numbers when they score.
        made["strategy"] = DDPStrategy(broadcast_buffers=False)
    trainer = build(
        config.trainer,
        callbacks=[*callbacks, *bar],
        logger=list(loggers) or False,
        enable_progress_bar=bool(bar),
        enable_checkpointing=states is not None,
        sync_batchnorm=processes > 1 and shares_norm(config) and computes_on_cuda(config),
        accumulate_grad_batches=1 if every_tile else loading.share(processes).batches,
        **made,
        **(_EVERY_TILE if every_tile else {}),
    )
    _leave_sigterm(trainer)
    return trainer


def _leave_sigterm(trainer: Trainer) -> None:
    """Keep Lightning from handling SIGTERM, of which it leaves nobody a choice.

    It ends a fit after the next batch, before a state can be kept, and tells other processes of it in
    the middle of whatever they tell each other. What it puts back after Ctrl-C, it still does.
    """
    connector = trainer._signal_connector

    def remember() -> None:
        connector._original_handlers = {signal.SIGINT: signal.getsignal(signal.SIGINT)}

    connector.register_signal_handlers = remember


def shares_norm(config: DictConfig) -> bool:
    """Whether processes normalise their batches as one."""
    return bool(config.trainer.get("sync_batchnorm", True))


def quiet_lightning() -> None:
    """Silence advice that does not hold here; warnings about the run itself still show."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for advice in (
        ".*does not have many workers.*",  # tiles are read in-process: faster, see Loading
        ".*number of training batches.*smaller than the logging interval.*",
        ".*module.s. in eval mode at the start of training.*",  # the encoder, for ever
        ".*recommended to use .*sync_dist=True.*",  # scores are the same in all processes already
        ".*isinstance.*LeafSpec.*",  # lightning 2.6 on torch 2.13
        ".*broadcast_buffers. is deprecated.*",  # since torch 2.13; older ones have no other word
    ):
        warnings.filterwarnings("ignore", advice)
