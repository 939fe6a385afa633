"""Splits: the study's protocol, and no patient on two sides whatever the cohort."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.data.splits import Split, check_split, sequential_split, stated_split
from tissueseg.errors import SplitError

shares = st.floats(0.01, 10)


def own_patients(count: int) -> dict[str, str]:
    return {f"t{i:02d}": f"t{i:02d}" for i in range(count)}


def test_the_study_s_35_tissues_in_alphabetical_order():
    patients = own_patients(35)
    shuffled = {name: patients[name] for name in sorted(patients, key=lambda n: n[::-1])}
    split = sequential_split(shuffled, train=0.8, val=0.2)
    names = tuple(sorted(patients))
    assert split == (names[:28], names[28:], ())


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=4), st.sampled_from("pqrstuv"), min_size=1
    ),
    shares,
    shares,
    st.just(0.0) | shares,
)
def test_patients_stay_together_and_every_tissue_is_placed_once(patients, train, val, test):
    try:
        split = sequential_split(patients, train, val, test)
    except SplitError as error:
        assert "no tissue on side" in str(error)  # noqa: PT017
        return
    assert Counter(name for side in split for name in side) == Counter(patients.keys())
    sides = [{patients[name] for name in side} for side in split]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert split.train
    assert split.val
    assert bool(split.test) == (test > 0)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.floats(0.01, 100))
def test_only_the_ratio_of_shares_counts(train, val, test, factor):
    patients = own_patients(train + val + test)
    split = sequential_split(patients, train * factor, val * factor, test * factor)
    assert tuple(map(len, split)) == (train, val, test)


def test_patients_come_in_the_order_of_their_first_tissue():
    patients = {"a": "late", "b": "early", "c": "late", "d": "early", "e": "z", "f": "z"}
    split = sequential_split(patients, 1, 1, 1)
    assert split == (("a", "c"), ("b", "d"), ("e", "f"))


@pytest.mark.parametrize(
    ("count", "given", "side"),
    [(1, {"train": 1, "val": 1}, "val"), (2, {"train": 1, "val": 1, "test": 0.01}, "test")],
)
def test_an_empty_side_is_named(count, given, side):
    with pytest.raises(SplitError, match=rf"no tissue on side '{side}'.*change split\.{side}"):
        sequential_split(own_patients(count), **given)


def test_one_patient_cannot_be_split():
    with pytest.raises(SplitError, match="3 tissues of 1 patients"):
        sequential_split(dict.fromkeys("abc", "only"), 0.5, 0.5)


@pytest.mark.parametrize("given", [(0, 1), (1, 0), (1, 1, -0.1)])
def test_impossible_shares_are_refused(given):
    with pytest.raises(SplitError, match="shares"):
        sequential_split(own_patients(9), *given)


@pytest.mark.parametrize(
    "planted",
    [
        Split(("a", "b"), ("c",)),
        Split(("a",), ("b",), ("c",)),
        Split(("b",), ("d",), ("a", "c")),
        Split(("a", "b"), ("d", "a")),
    ],
)
def test_leakage_is_caught(planted):
    patients = {"a": "p", "b": "q", "c": "p", "d": "r"}
    leaks = len([1 for side in planted if {patients[t] for t in side} & {"p"}]) > 1
    if leaks:
        with pytest.raises(SplitError, match=r"patient p .*leaked"):
            check_split(planted, patients)
    else:
        check_split(planted, patients)


def test_a_tissue_the_store_does_not_hold_is_named():
    with pytest.raises(SplitError, match=r"split\.val names ghost"):
        check_split(Split(("a",), ("ghost",)), {"a": "a"})


FOLDS = {"a": "fold1", "b": "fold2", "c": "fold2", "d": "fold3"}


def test_stated_split_follows_the_source():
    split = stated_split(own_patients_of("abcd"), ["fold2"], ["fold1"], ["fold3"], stated=FOLDS)
    assert split == Split(("b", "c"), ("a",), ("d",))
    split = stated_split(
        own_patients_of("abcd"), ["fold2"], ["fold1"], leave_out=["fold3"], stated=FOLDS
    )
    assert split == Split(("b", "c"), ("a",), ())


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        (
            (["fold1"], ["fold2"]),
            "tissue d is in 'fold3' of its source, which stands under no side",
        ),
        ((["fold1", "fold2"], ["fold2"], ["fold3"]), "stands under train and val"),
        ((["fold1", "fold2", "fold3"], []), "no tissue on side 'val'"),
    ],
)
def test_stated_split_that_does_not_cover_the_source_is_refused(sides, said):
    with pytest.raises(SplitError, match=said):
        stated_split(own_patients_of("abcd"), *sides, stated=FOLDS)


def test_stated_split_may_not_part_a_patient():
    patients = {"a": "p", "b": "p", "c": "q", "d": "r"}
    with pytest.raises(SplitError, match="leaked"):
        stated_split(patients, ["fold2"], ["fold1"], ["fold3"], stated=FOLDS)


def own_patients_of(names):
    return {name: name for name in names}
