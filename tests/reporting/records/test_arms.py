"""Which runs are one arm's: what may differ between them, and what may not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from study_made import made_confusion, write_run, write_study

from tissueseg.errors import ConfigError
from tissueseg.reporting.records.arms import by_arm, with_arms
from tissueseg.reporting.records.run_record import read_runs

TISSUES = {"test": ["a", "b"]}
COUNTS = {"test": np.stack([made_confusion(0.5), made_confusion(0.6)])}


@pytest.fixture
def plain_run(tmp_path):
    """Write and read a run of no study; words are keys of its configuration, `__` for a dot."""
    made = []

    def run(seed=0, fold=1, name="baseline", place=None, **words):
        place = place or f"run_{len(made)}"
        folder = write_run(
            tmp_path / place,
            study=None, arm=name, fold=fold, seed=seed, tissues=TISSUES, confusions=COUNTS,
        )  # fmt: skip
        ((record,), _) = read_runs([folder])
        for key, value in words.items():
            *above, last = key.split("__")
            node = record.config
            for part in above:
                node = node[part]
            node[last] = value
        made.append(record)
        return record

    return run


def arms(records):
    return [record.arm for record in with_arms(records)]


def study(tmp_path, name="decoders", **options):
    root = write_study(tmp_path / name, {"b": 0, "a": 0}, seeds=[0, 1], study=name, **options)
    return read_runs([root])[0]


def test_runs_of_a_study_say_their_arm(tmp_path):
    records = with_arms(study(tmp_path))
    assert Counter(record.arm for record in records) == {"a": 4, "b": 4}
    assert list(by_arm(records)) == ["b", "a"]  # as the study lists them


def test_arms_of_several_studies_bear_their_names(tmp_path):
    records = with_arms([*study(tmp_path), *study(tmp_path, "gating")])
    assert list(by_arm(records)) == ["decoders/b", "gating/b", "decoders/a", "gating/a"]


def test_plain_runs_that_differ_in_seed_fold_and_machine_are_one_arm(plain_run):
    machine = {
        "trainer__accelerator": "gpu",
        "trainer__devices": 4,
        "logger": {"wandb": {"project": "p"}},
        "data__num_workers": 8,
        "data__pin_memory": True,
        "embeddings__path": "/scratch/e",
        "run_dir": "/scratch/run",
    }
    records = [plain_run(), plain_run(seed=1, **machine), plain_run(fold=2), plain_run(1, 2)]
    assert arms(records) == ["baseline-he_sp-tiny_random_init"] * 4


def test_plain_runs_of_other_decoders_bear_other_names(plain_run):
    records = [plain_run(seed, name=name) for name in ("baseline", "boundary") for seed in (0, 1)]
    records[2].config["decoder"]["boundary"] = records[3].config["decoder"]["boundary"] = True
    named = [f"{name}-he_sp-tiny_random_init" for name in ("baseline", "boundary")]
    assert arms(records) == [named[0]] * 2 + [named[1]] * 2


def test_arms_of_one_name_are_told_apart_by_the_fewest_words(plain_run):
    both = {"optim__optimizer__lr": 0.001, "optim__optimizer__weight_decay": 0.0}
    name = "baseline-he_sp-tiny_random_init"
    records = [plain_run(), plain_run(**both), plain_run(1, **both), plain_run(name="other")]
    assert arms(records) == [
        f"{name}, optim.optimizer.lr=0.003",
        *[f"{name}, optim.optimizer.lr=0.001"] * 2,
        "other-he_sp-tiny_random_init",
    ]


def test_several_words_are_given_where_one_does_not_do(plain_run):
    records = [
        plain_run(optim__optimizer__lr=lr, data__batch_size=size)
        for lr in (0.1, 0.2)
        for size in (4, 8)
    ]
    said = [arm.partition(", ")[2] for arm in arms(records)]
    assert said == [
        f"data.batch_size={size}, optim.optimizer.lr={lr}" for lr in (0.1, 0.2) for size in (4, 8)
    ]


def test_what_an_older_run_does_not_say_is_null(plain_run):
    assert len(set(arms([plain_run(), plain_run(1, ema=None)]))) == 1
    assert arms([plain_run(), plain_run(1, ema=0.99)])[1].endswith(", ema=0.99")


def test_a_file_that_lies_elsewhere_is_the_same_file(plain_run):
    here, there = (
        plain_run(i, encoder__weights=f"/{root}/w.pt") for i, root in enumerate(("x", "y/z"))
    )
    other = plain_run(2, encoder__weights="/x/v.pt")
    found = arms([here, there, other])
    assert found[0] == found[1] != found[2]
    assert found[2].endswith("encoder.weights=v.pt")


def test_another_store_makes_an_arm_wherever_it_lies(plain_run):
    paths = ("/x/orion.zarr", "s3://bucket/orion.zarr", "/x/pannuke.zarr")
    found = arms([plain_run(i, store__path=path) for i, path in enumerate(paths)])
    assert [arm.partition(", ")[2] for arm in found] == [
        f"store.path={name}.zarr" for name in ("orion", "orion", "pannuke")
    ]


def test_precision_makes_an_arm_although_other_words_of_the_trainer_do_not(plain_run):
    found = arms([plain_run(), plain_run(trainer__precision="bf16-mixed")])
    assert found[1].endswith("trainer.precision=bf16-mixed")


def test_class_weights_of_a_fold_s_tissues_make_no_arm_but_those_set_by_hand_do(plain_run):
    by_fold = [plain_run(fold=fold) for fold in (1, 2)]
    assert by_fold[0].config["class_weights"] != by_fold[1].config["class_weights"]
    assert len(set(arms(by_fold))) == 1
    by_hand = [plain_run(class_weights=[1, 1, 1, w]) for w in (1, 9)]
    assert [arm.partition(", ")[2] for arm in arms(by_hand)] == [
        f"class_weights=[1, 1, 1, {w}]" for w in (1, 9)
    ]
    assert len(set(arms([plain_run(), plain_run(1, class_weights=None)]))) == 2


def test_a_training_that_is_there_twice_is_refused_with_both_places(plain_run):
    records = [plain_run(place="one"), plain_run(place="two")]
    with pytest.raises(ConfigError, match=r"on fold 1 with seed 0 twice, in one and two: leave"):
        with_arms(records)


def test_an_arm_whose_runs_were_made_in_two_ways_is_refused(tmp_path):
    records = study(tmp_path)
    changed = replace(records[1], config={**records[1].config, "epochs": 12})
    with pytest.raises(ConfigError) as found:
        with_arms([records[0], changed, *records[2:]])
    assert str(found.value) == (
        "runs: arm a was made with epochs=4 in a/fold_1-seed_0, but with 12 in a/fold_1-seed_1: "
        "report one of them, or train the other again."
    )


def test_class_weights_of_one_fold_are_the_same_for_all_seeds(tmp_path):
    records = study(tmp_path)
    changed = replace(records[1], config={**records[1].config, "class_weights": [1.0] * 4})
    with pytest.raises(ConfigError, match=r"class_weights=\[1.0, 4.5"):
        with_arms([records[0], changed])


def test_nothing_of_a_record_is_changed_but_its_arm(tmp_path):
    records = study(tmp_path)
    for before, after in zip(records, with_arms(records), strict=True):
        assert replace(after, arm=before.arm) == before
