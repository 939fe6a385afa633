"""Rules that place patients: the study's protocols, and no patient on two sides whatever the cohort."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tissueseg.data.split_rules import ByPatient, KFold, Quarters, Sequential
from tissueseg.data.splits import Cohort, Split
from tissueseg.errors import ConfigError, SplitError

shares = st.floats(0.01, 10)
cohorts = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.sampled_from("pqrstuvwxyz"), min_size=1
)
rules = st.one_of(
    st.builds(Sequential, train=shares, val=shares, test=st.just(0.0) | shares),
    st.builds(Quarters, fold=st.integers(1, 2), val=st.floats(0.01, 0.99)),
    st.builds(
        lambda folds, fold, order, seed: KFold(
            folds=folds, fold=1 + fold % folds, order=order, seed=seed
        ),
        st.integers(3, 6),
        st.integers(0, 5),
        st.sampled_from(["sequential", "shuffled"]),
        st.integers(0, 9),
    ),
    st.builds(
        ByPatient, train=shares, val=shares, test=st.just(0.0) | shares, seed=st.integers(0, 9)
    ),
)


def own_patients(count: int) -> dict[str, str]:
    return {f"t{i:02d}": f"t{i:02d}" for i in range(count)}


def sequential(patients: dict[str, str], train: float, val: float, test: float = 0.0) -> Split:
    return Sequential(train=train, val=val, test=test)(Cohort(patients))


@given(cohorts, rules)
def test_patients_stay_together_and_every_tissue_is_placed_once(patients, rule):
    try:
        split = rule(Cohort(patients))
    except SplitError as error:
        said = ("no tissue on side", "patients at least", "holds one patient")
        assert any(words in str(error) for words in said)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    placed = Counter(name for side in split for name in side)
    assert max(placed.values()) == 1
    assert set(placed) <= set(patients)
    assert set(placed) == set(patients) or isinstance(rule, Quarters)
    sides = [{patients[name] for name in side} for side in split]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert split.train
    assert split.val
    assert bool(split.test) == (getattr(rule, "test", 1) > 0)


@given(cohorts, rules, st.randoms())
def test_a_split_depends_on_neither_the_order_of_tissues_nor_the_time(patients, rule, random):
    names = list(patients)
    random.shuffle(names)
    shuffled = Cohort({name: patients[name] for name in names})
    try:
        split = rule(Cohort(patients))
    except SplitError:
        with pytest.raises(SplitError):
            rule(shuffled)
        return
    assert rule(shuffled) == split


@given(st.lists(rules, min_size=2, max_size=2))
def test_no_two_rules_share_a_name(pair):
    one, other = pair
    alike = type(one) is type(other) and one.options() == other.options()
    assert (one.label == other.label) == alike


def test_names_are_short_and_say_it_all():
    assert KFold(folds=5, fold=2).label == "kfold_5_fold_2"
    assert KFold(folds=5, fold=2, order="shuffled", seed=7).label == (
        "kfold_5_fold_2_shuffled_seed_7"
    )
    assert KFold(folds=5, fold=2, seed=7).label == "kfold_5_fold_2"  # the seed is of no account
    assert Quarters(fold=1).label == "quarters_fold_1_val_0.2"
    assert Sequential(train=0.8, val=0.2).label == "sequential_0.8_0.2_0"
    assert Sequential(train=1e16, val=1).label != Sequential(train=1e-16, val=1).label
    assert ByPatient(train=2, val=1, test=1, seed=3).label == "by_patient_2_1_1_seed_3"
    assert Quarters(fold=1, name="mine").label == "mine"


class TestSequential:
    def test_the_study_s_35_tissues_in_alphabetical_order(self):
        patients = own_patients(35)
        shuffled = {name: patients[name] for name in sorted(patients, key=lambda n: n[::-1])}
        split = sequential(shuffled, train=0.8, val=0.2)
        names = tuple(sorted(patients))
        assert split == (names[:28], names[28:], ())

    @given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.floats(0.01, 100))
    def test_only_the_ratio_of_shares_counts(self, train, val, test, factor):
        patients = own_patients(train + val + test)
        split = sequential(patients, train * factor, val * factor, test * factor)
        assert tuple(map(len, split)) == (train, val, test)

    def test_patients_come_in_the_order_of_their_first_tissue(self):
        patients = {"a": "late", "b": "early", "c": "late", "d": "early", "e": "z", "f": "z"}
        assert sequential(patients, 1, 1, 1) == (("a", "c"), ("b", "d"), ("e", "f"))

    @pytest.mark.parametrize(
        ("count", "given", "side"),
        [(1, {"train": 1, "val": 1}, "val"), (2, {"train": 1, "val": 1, "test": 0.01}, "test")],
    )
    def test_an_empty_side_is_named(self, count, given, side):
        with pytest.raises(SplitError, match=rf"no tissue on side '{side}'.*change split\.{side}"):
            sequential(own_patients(count), **given)

    def test_one_patient_cannot_be_split(self):
        with pytest.raises(SplitError, match="3 tissues of 1 patients"):
            sequential(dict.fromkeys("abc", "only"), 0.5, 0.5)


class TestQuarters:
    def test_the_study_s_quarters_with_an_epoch_chosen_in_training(self):
        names = sorted(own_patients(40))
        one = Quarters(fold=1)(Cohort(own_patients(40)))
        assert one == (tuple(names[:8]), tuple(names[8:10]), tuple(names[10:20]))
        two = Quarters(fold=2)(Cohort(own_patients(40)))
        assert two == (tuple(names[20:28]), tuple(names[28:30]), tuple(names[30:]))

    def test_the_demo_s_8_tissues_are_enough(self):
        split = Quarters(fold=2)(Cohort(own_patients(8)))
        assert split == (("t04",), ("t05",), ("t06", "t07"))

    @given(cohorts)
    def test_folds_share_no_tissue(self, patients):
        assume(len(set(patients.values())) >= 5)
        try:
            folds = [Quarters(fold=fold)(Cohort(patients)) for fold in (1, 2)]
        except SplitError:
            return
        placed = [name for split in folds for side in split for name in side]
        assert sorted(placed) == sorted(patients)

    def test_too_few_patients(self):
        with pytest.raises(
            SplitError, match=r"quarters takes 5 .* 8 tissues of 4 patients: choose"
        ):
            Quarters(fold=1)(Cohort(dict(zip("abcdefgh", "ppqqrrss", strict=True))))
        large = dict.fromkeys(("a1", "a2", "a3"), "a") | {n: n for n in "bcdef"}
        with pytest.raises(SplitError, match=r"fold=1: its training quarter holds one patient"):
            Quarters(fold=1)(Cohort(large))


class TestKFold:
    @given(cohorts, st.integers(3, 6), st.sampled_from(["sequential", "shuffled"]))
    def test_each_tissue_is_reported_once_and_chooses_the_epoch_once(self, patients, folds, order):
        assume(len(set(patients.values())) >= folds)
        splits = [
            KFold(folds=folds, fold=fold, order=order)(Cohort(patients))
            for fold in range(1, folds + 1)
        ]
        for side in ("test", "val"):
            placed = [name for split in splits for name in getattr(split, side)]
            assert sorted(placed) == sorted(patients)

    def test_the_study_s_consecutive_thirds(self):
        names = [tuple(f"t{i:02d}" for i in range(3 * k, 3 * k + 3)) for k in range(3)]
        splits = [KFold(folds=3, fold=fold)(Cohort(own_patients(9))) for fold in (1, 2, 3)]
        assert splits == [
            (names[2], names[1], names[0]),
            (names[0], names[2], names[1]),
            (names[1], names[0], names[2]),
        ]

    def test_seeds_draw_other_folds(self):
        cohort = Cohort(own_patients(30))
        drawn = {KFold(folds=5, fold=1, order="shuffled", seed=s)(cohort).test for s in range(8)}
        assert len(drawn) == 8

    def test_too_few_patients(self):
        with pytest.raises(SplitError, match=r"folds=5 takes 5 .* 4 tissues of 4 .* fewer folds"):
            KFold(folds=5, fold=1)(Cohort(own_patients(4)))


class TestByPatient:
    @given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.integers(0, 99))
    def test_shares_that_fit_are_met(self, train, val, test, seed):
        rule = ByPatient(train=train, val=val, test=test, seed=seed)
        split = rule(Cohort(own_patients(train + val + test)))
        assert tuple(map(len, split)) == (train, val, test)

    @given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.floats(0.05, 0.95))
    @example([1, 2], 0.875)
    def test_the_side_is_as_near_its_share_as_any_set_of_whole_patients(self, sizes, share):
        patients = {f"{p}_{t}": str(p) for p, size in enumerate(sizes) for t in range(size)}
        split = ByPatient(train=1 - share, val=share)(Cohort(patients))
        aim = share * len(patients)
        possible = (sum(c) for n in range(1, len(sizes)) for c in combinations(sizes, n))
        assert abs(len(split.val) - aim) <= min(abs(n - aim) for n in possible) + 1e-6

    def test_every_patient_is_as_likely_as_another_to_be_reported(self):
        rules = [ByPatient(train=3, val=1, test=1, seed=seed) for seed in range(400)]
        counts = Counter(t for rule in rules for t in rule(Cohort(own_patients(10))).test)
        assert set(counts) == set(own_patients(10))
        assert max(abs(count - 80) for count in counts.values()) < 32  # four standard deviations

    def test_too_few_patients(self):
        with pytest.raises(SplitError, match=r"3 sides takes 3 .* 2 tissues of 2 patients"):
            ByPatient(train=1, val=1, test=1)(Cohort(own_patients(2)))


BAD = {
    "split: shares are": [
        lambda: Sequential(train=0, val=1),
        lambda: Sequential(train=1, val=0),
        lambda: Sequential(train=1, val=1, test=-0.1),
        lambda: ByPatient(train=1, val=float("nan")),
        lambda: ByPatient(train="some", val=1),
    ],
    r"split\.fold=3, .* 1 and at most 2": [lambda: Quarters(fold=3)],
    r"split\.fold=6, .* 1 and at most 5": [lambda: KFold(folds=5, fold=6)],
    r"split\.folds=2, .* at least 3": [lambda: KFold(folds=2, fold=1)],
    r"split\.folds=many": [lambda: KFold(folds="many", fold=1)],
    r"split\.order=random is unknown: choose from sequential, shuffled": [
        lambda: KFold(folds=3, fold=1, order="random")
    ],
    r"split\.seed=-1": [
        lambda: KFold(folds=3, fold=1, seed=-1),
        lambda: ByPatient(train=1, val=1, seed=-1),
    ],
    r"split\.val=1, wanted a finite number > 0 and < 1": [lambda: Quarters(fold=1, val=1)],
    r"split\.val=0, .*training quarter": [lambda: Quarters(fold=1, val=0)],
    r"split\.name='a/b'": [lambda: Quarters(fold=1, name="a/b")],
    r"split\.name='\.\.'": [lambda: Quarters(fold=1, name="..")],
    r"split\.name='zarr'": [lambda: Quarters(fold=1, name="zarr")],
}


@pytest.mark.parametrize(
    ("said", "make"), [(said, make) for said, several in BAD.items() for make in several]
)
def test_options_that_cannot_be_used_are_refused_before_there_is_a_cohort(said, make):
    with pytest.raises(ConfigError, match=said):
        make()
