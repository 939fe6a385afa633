"""Measures against the numbers that runs wrote themselves, and what arms have of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from study_made import CLASSES, made_confusion, write_run, write_study

from tissueseg.errors import ConfigError
from tissueseg.reporting.records.arms import with_arms
from tissueseg.reporting.records.measures import available, find_measure, samples
from tissueseg.reporting.records.run_record import read_runs


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two arms, two folds of three tissues, three seeds, with scores of cells."""
    root = write_study(tmp_path_factory.mktemp("m") / "s", {"b": 0.1, "a": 0}, cells=True)
    return with_arms(read_runs([root])[0])


def measured(key, records):
    measure = find_measure(key, records)
    found, notes = samples(measure, records)
    return measure, {sample.arm: sample for sample in found}, notes


def only(records, arm="a", fold="1", seed=0):
    return [r for r in records if (r.arm, r.fold, r.seed) == (arm, fold, seed)]


def test_every_score_a_run_wrote_can_be_had_and_is_the_same(records):
    run = only(records)
    written = run[0].metrics["metrics"]
    keys = [key for key in written if written[key] is not None]
    assert {
        "test/dice/macro",
        "val/iou/b_cell",
        "val/calibration/ece",
        "test/dice_study_batch4",
    } <= {*keys}
    for key in keys:
        measure, found, notes = measured(key, run)
        score = measure.score(found["a"].parts.sum(1))
        assert score == pytest.approx([written[key]]), key
        assert not notes


def test_scores_of_cells_are_those_that_evaluate_wrote(records):
    run = only(records)
    cells = run[0].evaluations["test"]["cells"]["scores"]
    for key in (
        "bpq_image",
        "mpq_image",
        "hv_mse_image",
        "bpq_plus",
        "pq_plus/tumor",
        "aji_pooled",
    ):
        measure, found, _ = measured(f"test/{key}", run)
        assert measure.score(found["a"].parts.sum(1)) == pytest.approx([cells[key]]), key


def test_pooling_over_pixels_is_over_those_of_all_folds(records):
    measure, found, _ = measured("test/dice/macro_foreground", records)
    sample = found["b"]
    assert sample.seeds == (0, 1, 2)
    assert sample.folds == ("1",) * 3 + ("2",) * 3
    assert sample.units == sample.clusters == tuple(f"tissue_{i:03d}" for i in range(3, 9))
    pooled = sum(r.confusion["test"].sum(0) for r in records if r.arm == "b" and r.seed == 1)
    dice = 2 * np.diag(pooled) / (pooled.sum(0) + pooled.sum(1))
    assert measure.score(sample.parts[1].sum(0)) == pytest.approx(dice[1:].mean())
    assert "pooled over all pixels" in measure.averaging
    assert "background left out" in measure.averaging


def test_measures_score_any_leading_axes(records):
    for key in ("test/dice/macro", "test/iou/tumor", "test/dice_tissue/tumor", "test/bpq_image"):
        measure, found, _ = measured(key, records)
        parts = found["a"].parts
        each = measure.score(parts)
        assert each.shape == parts.shape[:2]
        assert measure.score(parts[1, 2]) == each[1, 2]


def test_a_mean_over_tissues_is_not_pooled(tmp_path):
    """A tissue of 100 pixels counts as much as one of 100 000."""
    counts = np.stack([made_confusion(0.9, pixels=100), made_confusion(0.3, pixels=100_000)])
    write_run(tmp_path / "r", tissues={"test": ["a", "b"]}, confusions={"test": counts})
    records = with_arms(read_runs([tmp_path])[0])
    own = [records[0].scores("test")["tissues"][name]["dice"][1] for name in "ab"]
    measure, found, _ = measured("test/dice_tissue/tumor", records)
    assert measure.score(found["baseline"].parts.sum(1)) == pytest.approx([np.mean(own)])
    pooled, found, _ = measured("test/dice/tumor", records)
    assert pooled.score(found["baseline"].parts.sum(1)) == pytest.approx([own[1]], rel=0.01)


def test_a_class_that_is_nowhere_is_undefined_and_left_out(tmp_path):
    shares = [(0.8, 0.2, 0, 0), (0.7, 0.2, 0.1, 0)]
    counts = np.stack([made_confusion(1, share) for share in shares])
    write_run(tmp_path / "r", tissues={"test": ["a", "b"]}, confusions={"test": counts})
    records = with_arms(read_runs([tmp_path])[0])

    def score(key):
        measure, found, _ = measured(key, records)
        return measure.score(found["baseline"].parts.sum(1))[0]

    assert np.isnan(score("test/dice/b_cell"))
    assert np.isnan(score("test/dice_tissue/b_cell"))
    assert score("test/dice/macro_foreground") == 1
    assert score("test/dice_tissue/stroma") == 1  # of the tissue that has it


def without_class(tmp_path, false_pixels):
    """Two tissues, the second without stroma, of which some pixels are called so all the same."""
    counts = np.stack([made_confusion(1, (0.7, 0.2, 0.1, 0)), made_confusion(1, (0.8, 0.2, 0, 0))])
    counts[1, 0, 0] -= false_pixels
    counts[1, 0, 2] += false_pixels
    counts[0, 0, 0] -= false_pixels
    counts[0, 0, 3] += false_pixels  # b_cell is in no tissue
    folder = tmp_path / f"r{false_pixels}"
    write_run(folder, tissues={"test": ["a", "b"]}, confusions={"test": counts})
    return with_arms(read_runs([folder])[0])


@pytest.mark.parametrize("score", ["dice", "iou", "dice_tissue", "iou_tissue"])
@pytest.mark.parametrize("of", ["macro", "macro_foreground"])
def test_a_class_that_is_only_predicted_is_not_in_the_mean(tmp_path, score, of):
    """One pixel would cost a quarter of the mean."""
    found = []
    for false_pixels in (0, 1):
        records = without_class(tmp_path, false_pixels)
        measure, arms, notes = measured(f"test/{score}/{of}", records)
        found.append(measure.score(arms["baseline"].parts.sum(1))[0])
        assert "mean over the classes that occur in the truth" in measure.averaging
        assert bool(notes) == bool(false_pixels)
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    where = "in test tissues without it: stroma, b_cell" if "_" in score else "that no test tissue"
    assert notes[0].startswith(f"1 run predicts a class {where}")


def test_background_that_is_only_predicted_is_told_where_it_is_in_the_mean(tmp_path):
    counts = made_confusion(1, (0, 0.7, 0.2, 0.1))
    counts[1, 0] = 5
    write_run(tmp_path / "r", tissues={"test": ["a"]}, confusions={"test": counts[None]})
    records = with_arms(read_runs([tmp_path])[0])
    assert "that no test tissue has: background." in measured("test/dice/macro", records)[2][0]
    assert measured("test/dice/macro_foreground", records)[2] == []


def test_a_class_that_is_only_predicted_has_a_score_of_its_own(tmp_path):
    measure, found, notes = measured("test/dice/b_cell", without_class(tmp_path, 1))
    assert measure.score(found["baseline"].parts.sum(1)) == [0]
    assert notes == []


def test_scores_of_cells_that_were_never_made_are_said_to_be_made_by_evaluate(records):
    without = [replace(record, evaluations={}) for record in records]
    for key in ("test/bpq_image", "test/pq_plus/tumor"):
        with pytest.raises(
            ConfigError, match=r"tissueseg.evaluate run=… side=test` \(or study.eval"
        ):
            find_measure(key, without)
    with pytest.raises(ConfigError) as found:
        find_measure("test/dice/tumour", without)
    assert "evaluate" not in str(found.value)


def test_a_tissue_without_a_score_of_cells_is_left_out(tmp_path):
    folder = write_run(
        tmp_path / "r",
        tissues={"test": ["a", "b"]},
        confusions={"test": np.stack([made_confusion(0.5)] * 2)},
        cells=True,
    )
    path = folder / "evaluation" / "test" / "metrics.json"
    found = json.loads(path.read_text())
    found["test"]["cells"]["tissues"]["a"]["bpq_image"] = None
    path.write_text(json.dumps(found))
    measure, found, _ = measured("test/bpq_image", with_arms(read_runs([tmp_path])[0]))
    np.testing.assert_allclose(found["baseline"].parts, [[[0, 0], [0.5, 1]]])
    assert measure.score(found["baseline"].parts.sum(1)) == pytest.approx([0.5])


def test_scores_of_whole_runs_are_sampled_by_fold(records):
    measure, found, _ = measured("test/bpq_plus", records)
    assert (measure.unit, found["a"].units) == ("fold", ("fold 1", "fold 2"))
    assert found["a"].parts.shape == (3, 2, 2)
    assert "one number of each fold's test side" in measure.averaging


@pytest.mark.parametrize(
    "name", ["hv_mse_image", "ece_pooled", "brier_pooled", "calibration/brier"]
)
def test_errors_are_better_when_lower(records, name):
    assert not find_measure(f"test/{name}", records).higher_is_better
    assert find_measure("test/bpq_image", records).higher_is_better


def test_averaging_tells_sides_and_measures_apart(records):
    words = [find_measure(key, records).averaging for key in available(records)]
    assert all(word.endswith("seeds") for word in words)
    assert "by the fold that held it out" in find_measure("test/dice/tumor", records).averaging
    assert "chose its epoch on it" in find_measure("val/dice/tumor", records).averaging


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("test/dice/macro_forground", "such as test/dice/macro_foreground"),
        ("train/dice/tumor", "sides: val, test"),
        ("test/bpq_imag", "test/bpq_image"),
        ("dice", "wanted <side>/<score>, such as test/dice/tumor"),
    ],
)
def test_an_unknown_measure_is_refused_with_near_ones(records, key, said):
    with pytest.raises(ConfigError) as found:
        find_measure(key, records)
    assert said in str(found.value)


def test_seeds_that_lack_a_fold_are_left_out_and_named(records):
    lacking = [r for r in records if r not in only(records, "a", "2", 1)]
    _, found, notes = measured("test/dice/macro", lacking)
    assert list(found) == ["b", "a"]  # as the study lists them
    assert found["a"].seeds == (0, 2)
    assert found["b"].seeds == (0, 1, 2)
    assert notes == ["Arm a: seed 1 is left out, for it has no test/dice/macro on fold 2."]


def test_an_arm_without_a_whole_seed_is_left_out(records):
    lacking = [replace(r, evaluations={}) if (r.arm, r.fold) == ("a", "2") else r for r in records]
    _, found, notes = measured("test/bpq_image", lacking)
    assert list(found) == ["b"]
    assert notes == ["Arm a is left out: none of its seeds has test/bpq_image on every fold."]


def test_a_seed_that_is_left_out_may_have_been_scored_on_other_tissues(records):
    lacking = [r for r in records if r not in only(records, "a", "2", 1)]
    other = only(records, "a", "1", 1)[0]
    changed = [renamed(r) if r is other else r for r in lacking]
    assert measured("test/dice/macro", changed)[1]["a"].seeds == (0, 2)


def test_an_arm_may_have_fewer_folds_than_others(records):
    fewer = [r for r in records if (r.arm, r.fold) != ("a", "2")]
    _, found, notes = measured("test/dice/tumor", fewer)
    assert (len(found["a"].units), len(found["b"].units), notes) == (3, 6, [])


def in_two_folds(tmp_path):
    counts = {"test": np.stack([made_confusion(0.5), made_confusion(0.6)])}
    for fold, names in ((1, ["a", "b"]), (10, ["b", "c"]), (2, ["d", "e"])):
        write_run(tmp_path / f"fold_{fold}", fold=fold, tissues={"test": names}, confusions=counts)
    return with_arms(read_runs([tmp_path])[0])


def test_a_tissue_of_two_folds_is_two_units_of_one_cluster(tmp_path):
    _, found, _ = measured("test/dice/tumor", in_two_folds(tmp_path))
    sample = found["baseline"]
    assert sample.units == ("a", "b (fold 1)", "b (fold 10)", "c", "d", "e")
    assert sample.clusters == ("a", "b", "b", "c", "d", "e")
    assert sample.folds == ("1", "1", "10", "10", "2", "2")
    hits = sample.parts[0, :, 0]
    assert hits[0] == hits[2] < hits[1] == hits[3]  # `b` came second in fold 1 and first in fold 10


def test_patients_are_clusters_if_every_run_knows_them(tmp_path):
    patients = {"a": "p1", "b": "p1", "c": None, "d": "p2", "e": "p2"}
    known = [
        replace(r, environment={**r.environment, "patients": patients})
        for r in in_two_folds(tmp_path)
    ]
    assert measured("test/dice/tumor", known)[1]["baseline"].clusters == (
        "p1", "p1", "p1", "c", "p2", "p2"
    )  # fmt: skip
    without = {k: v for k, v in known[0].environment.items() if k != "patients"}
    partly = [replace(known[0], environment=without), *known[1:]]
    measure, found, notes = measured("test/dice/tumor", partly)
    assert found["baseline"].clusters == ("a", "b", "b", "c", "d", "e")
    assert (measure.cluster, find_measure("test/dice/tumor", known).cluster) == (
        "tissue",
        "patient",
    )
    assert notes[0].startswith("2 of 3 runs know the patients of tissues: every tissue counts as")


def renamed(record):
    """As if scored on other tissues."""
    scores = record.metrics["test"]
    tissues = {f"x_{name}": value for name, value in scores["tissues"].items()}
    return replace(record, metrics={**record.metrics, "test": {**scores, "tissues": tissues}})


def test_seeds_on_other_tissues_are_refused(records):
    changed = renamed(only(records, "a", "1", 1)[0])
    with pytest.raises(
        ConfigError, match="arm a was scored on other test tissues in a/fold_1-seed_0"
    ):
        measured("test/dice/macro", [changed, *only(records)])


def test_means_over_other_classes_are_refused_and_scores_of_one_are_not(tmp_path, records):
    write_run(
        tmp_path / "binary",
        arm="binary", classes=["background", "tumor"], tissues={"test": ["tissue_003"]},
        confusions={"test": np.array([[[80, 5], [5, 10]]])},
    )  # fmt: skip
    both = with_arms([*read_runs([tmp_path])[0], *only(records)])
    for name in ("dice", "iou_tissue"):
        with pytest.raises(
            ConfigError, match=r"arms binary and a have others \(background, tumor;"
        ):
            measured(f"test/{name}/macro", both)
    measure, found, _ = measured("test/dice/tumor", both)
    assert found["binary"].parts.shape[2:] == found["a"].parts.shape[2:]
    assert measure.score(found["binary"].parts.sum(1)) == pytest.approx([20 / 30])
    _, found, notes = measured(f"test/dice/{CLASSES[3]}", both)
    assert list(found) == ["a"]
    assert notes[0].startswith("Arm binary is left out")
