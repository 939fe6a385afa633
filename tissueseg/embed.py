"""`python -m tissueseg.embed …`: features of every tissue, encoded once, where `train` finds them."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from tissueseg.command import run_command
from tissueseg.composition import task_words
from tissueseg.errors import USER_ERROR, ConfigError
from tissueseg.numbers import check_whole
from tissueseg.ranks import ranks_to_start, start_ranks
from tissueseg.resuming import requeue
from tissueseg.store.processes import end_with_starter
from tissueseg.workers import shared_console, stoppable

ON_ERROR = ("stop", "skip")


def embed(config: DictConfig) -> None:
    """Encode what is missing, here or on as many devices as were asked for."""
    from tissueseg import preflight
    from tissueseg.augmentations import refuse_altering

    if config.features in preflight.FEATURES:
        config.features = "online"  # the encoder is needed, and so are its weights
    preflight.check(config)
    preflight.check_machine(config)
    refuse_altering(config, "embed", ", or views.extra=… for altered copies")
    _check(config)
    if count := ranks_to_start(config):
        if worst := start_ranks("tissueseg.embed", task_words(), count, together=False):
            sys.exit(worst)
        return
    with stoppable(requeue if config.state.requeue else lambda: None):
        failed = _encode(config)
    if failed:
        sys.exit(USER_ERROR)


def _encode(config: DictConfig) -> bool:
    """Encode on the device of this process; whether a tissue had to be left out."""
    from tissueseg import assembly
    from tissueseg.devices import own_device
    from tissueseg.embedding_job import encode_missing
    from tissueseg.preflight import modality_of

    device, console = own_device(config), shared_console()
    store = assembly.open_store(config, console)
    store.require(modality_of(config))
    split = assembly.open_split(config, store)
    return encode_missing(config, store, split, device, console).failed


def _check(config: DictConfig) -> None:
    from tissueseg.embedding_job import refuse_remote

    if config.on_error not in ON_ERROR:
        raise ConfigError(f"on_error={config.on_error}, wanted {' or '.join(ON_ERROR)}.")
    if not isinstance(config.wait, bool):
        raise ConfigError(f"wait={config.wait}, wanted true or false.")
    check_whole("batch_size", config.batch_size, 1)
    if config.threads is not None:
        check_whole("threads", config.threads, 1)
    refuse_remote(config)


if __name__ == "__main__":
    end_with_starter()
    run_command("embed", embed)
