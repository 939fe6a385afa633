"""The table in the terminal: every class with its numbers, and a dash where there are none."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from tissueseg.reporting.scores import side_scores
from tissueseg.reporting.tables import class_table

COUNTS = np.array([[[6, 2, 0], [1, 1, 0], [0, 0, 0]]])


def text(
    classes=("background", "tumor", "treg"), sides=("val",), run="baseline-he-vit_random_init"
):
    scores = {side: side_scores(COUNTS, ("a",), [6, 4, 0]) for side in sides}
    about = {"run": run, "epoch": 3, "classes": list(classes)}
    out = StringIO()
    Console(file=out, width=160).print(class_table(about, scores))
    return out.getvalue()


def row(printed, name):
    return next(line for line in printed.splitlines() if line.strip().startswith(name)).split()


def test_every_class_has_its_numbers():
    printed = text()
    # 2 of 10 pixels; Dice 2·1/(2 + 3), IoU 1/4; guessing 2·0.4·0.2/0.6
    assert row(printed, "tumor") == ["tumor", "20.00", "%", "0.400", "0.250", "0.267"]
    assert row(printed, "background")[1:4] == ["80.00", "%", "0.800"]
    assert row(printed, "macro foreground")[2:] == ["0.400", "0.250", "0.267"]


def test_what_is_undefined_is_a_dash():
    assert row(text(), "treg") == ["treg", "0.00", "%", "–", "–", "–"]


def test_it_says_which_run_which_epoch_and_which_side():
    printed = text(sides=("val", "test"))
    assert "baseline-he-vit_random_init, epoch 4" in printed
    assert "val share" in printed
    assert "test share" in printed
    assert "val, chose the epoch: 1" in printed
    assert "test, seen once: 1" in printed
    assert len(row(printed, "tumor")) == 1 + 2 * 5


@pytest.mark.parametrize("name", ["t cell [cd8]", "b [/b]", "[bold]"])
def test_names_are_shown_as_they_are(name):
    printed = text(("background", name, "treg"), sides=(f"store {name}",), run=f"run {name}")
    assert f"store {name} share" in printed
    assert f"(store {name}: 1)" in " ".join(printed.split())
    assert f"run {name}, epoch 4" in printed
    assert len([line for line in printed.splitlines() if line.strip().startswith(name)]) == 1
