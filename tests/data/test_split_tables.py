"""Splits that are written down: by the source, in a table, or in the store by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.data.split_rules import KFold, Quarters
from tissueseg.data.split_tables import Column, Named, named_split
from tissueseg.data.splits import Cohort, Split
from tissueseg.errors import ConfigError, SplitError, TissuesegError
from tissueseg.store.named_splits import keep_split

FOLDS = {"a": "fold1", "b": "fold2", "c": "fold2", "d": "fold3"}
OWN = {name: name for name in "abcd"}


def column(train: Any, val: Any, test: Any = (), **options: Any) -> Column:
    return Column(train=train, val=val, test=test, **options)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: str, name: str = "own.csv") -> str:
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return write


def test_the_source_s_folds_are_followed():
    cohort = Cohort(OWN, FOLDS)
    split = column(["fold2"], ["fold1"], ["fold3"])(cohort)
    assert split == Split(("b", "c"), ("a",), ("d",))
    split = column(["fold2"], ["fold1"], leave_out=["fold3"])(cohort)
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
def test_a_column_that_is_not_covered_is_refused(sides, said):
    with pytest.raises(SplitError, match=said):
        column(*sides)(Cohort(OWN, FOLDS))


def test_a_source_that_states_no_splits_is_said_to():
    with pytest.raises(
        SplitError, match=r"source states no splits of its tissues: give split\.table"
    ):
        column(["train"], ["val"])(Cohort(OWN, dict.fromkeys(OWN)))


def test_a_column_may_not_part_a_patient():
    patients = {"a": "p", "b": "p", "c": "q", "d": "r"}
    with pytest.raises(SplitError, match="leaked"):
        column(["fold2"], ["fold1"], ["fold3"])(Cohort(patients, FOLDS))


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3), st.sampled_from([*"1234", None]), min_size=1
    )
)
def test_each_tissue_stands_where_the_column_puts_it(stated):
    rule = column(1, [2], ["3"], leave_out=[4, None])  # words and numbers, one or several
    cohort = Cohort({tissue: tissue for tissue in stated}, stated)
    if not {"1", "2"} <= set(stated.values()):
        with pytest.raises(SplitError, match="no tissue on side"):
            rule(cohort)
        return
    places = {"1": "train", "2": "val", "3": "test"}
    for side, tissues in rule(cohort)._asdict().items():
        assert tissues == tuple(t for t in sorted(stated) if places.get(stated[t] or "") == side)


def test_a_table_of_one_s_own(table):
    path = table("sample\tcv\tage", "d\t2\t50", "b\t1\t", "a\t0\t7", "c\t\t", name="own.tsv")
    rule = column(0, 1, 2, leave_out=[None], table=path, column="cv", tissue_column="sample")
    rule.check_files()
    assert rule(Cohort(OWN, FOLDS)) == Split(("a",), ("b",), ("d",))


GOOD = ("a,train", "b,val", "c,train", "d,test")
WRONG = {
    "no such file. Give a csv": None,
    "has no column split; it has tissue, fold": ("tissue,fold", *GOOD),
    "has no column tissue; it has name, split": ("name,split", *GOOD),
    "has several rows for tissue b: keep one": ("tissue,split", *GOOD, "b,val"),
    "has no row for tissues c, d of the store: add them": ("tissue,split", *GOOD[:2]),
    "names tissue z, which the store does not hold": ("tissue,split", *GOOD, "z,train"),
    "tissue b is in 'tuning' of column split of .*own.csv, which stands under no side: give each of "
    r"\['test', 'train', 'tuning'\]": ("tissue,split", "a,train", "b,tuning", "c,train", "d,test"),
    "tissue a is in None of column": ("tissue,split", "a,", *GOOD[1:]),
}


@pytest.mark.parametrize(("said", "lines"), WRONG.items())
def test_mistakes_in_a_table_are_one_line(table, said, lines):
    path = table(*lines) if lines else "missing.csv"
    with pytest.raises(TissuesegError, match=said) as caught:
        column(["train"], ["val"], ["test"], table=path)(Cohort(OWN))
    assert "\n" not in str(caught.value)
    assert path in str(caught.value)


def test_a_missing_table_is_refused_before_a_store_is_opened():
    with pytest.raises(ConfigError, match=r"split\.table=missing\.csv: no such file"):
        column(["a"], ["b"], table="missing.csv").check_files()


@pytest.mark.parametrize("option", ["table", "column", "tissue_column"])
def test_names_of_tables_and_columns_are_text(option):
    with pytest.raises(ConfigError, match=rf"split\.{option}=5"):
        column(["a"], ["b"], **{option: 5})


def test_columns_have_names_of_their_own(table):
    path, other = table("tissue,split"), table("tissue,split", name="other.csv")
    rules = [
        column(["a"], ["b"]),
        column(["a"], ["b", "c"]),
        column(["a"], ["b"], leave_out=["c"]),
        column(["a"], ["b"], table=path),
        column(["a"], ["b"], table=other),
        column(["a"], ["b"], table=path, column="a b/c"),
        column(["a"], ["b"], table=path, tissue_column="id"),
    ]
    names = [rule.label for rule in rules]
    assert len(set(names)) == len(rules)
    assert names[0].startswith("column_source_")
    assert names[5].startswith("column_a-b-c_")
    assert column(["a"], "b").label == names[0]


DIGESTS = {name: f"digest of {name}" for name in "abcdef"}


def kept(folder: Path, rule: Any = None) -> tuple[Cohort, Split]:
    """A cohort whose store keeps a split by the name `mine`."""
    cohort = Cohort({n: n for n in DIGESTS}, {}, DIGESTS, str(folder))
    rule = rule or KFold(folds=3, fold=1, name="mine")
    split = rule(cohort)
    keep_split(cohort.address, named_split(rule, split, DIGESTS))
    return cohort, split


def test_a_kept_split_is_used_again_by_name(tmp_path):
    cohort, split = kept(tmp_path)
    assert Named(name="mine")(cohort) == split
    again = named_split(Named(name="mine"), split, DIGESTS)
    assert keep_split(cohort.address, again) == f"{tmp_path}/.splits/mine.json"


def test_tissues_that_are_not_used_are_kept_as_left_out(tmp_path):
    cohort, split = kept(tmp_path, Quarters(fold=1, name="mine"))
    assert sum(map(len, split)) < len(DIGESTS)
    assert Named(name="mine")(cohort) == split


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d | {"a": "other"}, "tissue a has other pixels than it had"),
        (lambda d: d | {"z": "new"}, "tissue z is new"),
        (lambda d: {t: d[t] for t in "abcd"}, r"tissue e is gone \(and 1 more\)"),
    ],
)
def test_a_kept_split_of_other_tissues_is_refused(tmp_path, change, said):
    cohort, _ = kept(tmp_path)
    now = change(DIGESTS)
    changed = cohort._replace(patients={t: t for t in now}, digests=now)
    with pytest.raises(SplitError, match=said):
        Named(name="mine")(changed)


def test_a_kept_split_may_not_part_patients_who_are_known_by_now(tmp_path):
    cohort, _ = kept(tmp_path)
    with pytest.raises(SplitError, match="leaked"):
        Named(name="mine")(cohort._replace(patients=dict.fromkeys(DIGESTS, "one")))


def test_a_name_that_is_not_kept_is_told_with_those_that_are(tmp_path):
    cohort, _ = kept(tmp_path)
    with pytest.raises(
        SplitError, match=r"split\.name=yours: .* keeps no split .* it keeps mine\."
    ):
        Named(name="yours")(cohort)
    with pytest.raises(ConfigError, match=r"give split\.name=…"):
        Named()
