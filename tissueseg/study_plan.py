"""A study before its first run and after its last: what is refused, and what became of all."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tissueseg import preflight
from tissueseg.composition import one_line
from tissueseg.errors import USER_ERROR, TissuesegError, in_one_line
from tissueseg.store.processes import WITH, this_process
from tissueseg.study import JOBS, arm_words, read_record, recipe
from tissueseg.study_checks import check_different, check_shared, check_study


class Plan(Callback):
    """Checks a study before its first run, and says at the end what became of all."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what could not run, in the process that starts the sweep."""
        # Jobs of a cluster's queue live on when the process that put them there is gone.
        if "submitit" not in config.hydra.launcher._target_:
            os.environ[WITH] = this_process()
        try:
            check_study(config)
            arms = _check_arms(config)
            Path(config.study.out).mkdir(parents=True, exist_ok=True)
        except (TissuesegError, HydraException, OmegaConfBaseException) as error:
            _refuse(one_line(error))
        except OSError as error:
            _refuse(f"study.out={config.study.out}: {in_one_line(error)}. Choose another folder.")
        print(f"study {config.study.name}, protocol {config.protocol.name}: {', '.join(arms)}")
        print(f"folder: {config.study.out}", flush=True)
        self.begin(config)

    def begin(self, config: DictConfig) -> None:
        """Note what the records of runs say before the first of them."""
        self._before = _records(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Count runs, name those that failed, and exit 2 if there are any."""
        # Not told by time: clocks of a cluster's machines differ, and may be put back.
        records = [r for path, r in _records(config).items() if r != self._before.get(path)]
        failed = [r for r in records if "refused" in r or r.get("state") == "failed"]
        states = [record.get("state") for record in records if record not in failed]
        print(
            f"{_runs(states.count('finished'))} finished, {states.count('kept')} kept from before"
        )
        print(f"  python -m tissueseg.report runs={config.study.out}", flush=True)
        if failed:
            told = [
                f"{r['arm']}.{r['label']} ({r.get('refused') or r['line']})" for r in failed[:3]
            ]
            _refuse(
                f"{_runs(len(failed))} failed: {'; '.join(told)}{' …' if failed[3:] else ''}. Mend the "
                "cause, and start the study again: the others are kept."
            )


def _records(config: DictConfig) -> dict[Path, dict[str, Any]]:
    """What the records of a study's runs say, by their paths in order."""
    paths = sorted((Path(config.study.out) / JOBS).glob("*.json"))
    return {path: read_record(path) for path in paths}


def _check_arms(config: DictConfig) -> list[str]:
    """Compose every arm once with the words all runs have, and check it; the arms that will run."""
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    swept = [o for o in parsed if o.is_sweep_override()]
    shared = [o.input_line for o in parsed if o not in swept and o.input_line]
    check_shared(config, shared, [o.get_key_element() for o in swept])
    arms = list(config.study.arms)
    for override in (o for o in parsed if o.get_key_element() == "study.arm"):
        named = override.sweep_string_iterator() if override in swept else None
        arms = list(named) if named else [override.get_value_element_as_str()]
    words = {arm: [*arm_words(config, arm), *shared] for arm in arms}
    check_different({arm: recipe(of_arm) for arm, of_arm in words.items()})
    for of_arm in words.values():
        composed = compose("train", of_arm)
        preflight.check(composed)
        preflight.check_training(composed)
    return arms


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _refuse(line: str) -> NoReturn:
    sys.stderr.write(f"error: {line}\n")
    sys.exit(USER_ERROR)
