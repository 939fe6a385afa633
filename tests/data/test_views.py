"""Views: turns that targets follow, draws that are functions of their key, stores that cover others."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tissueseg.data.views import HED, HedJitter, View, Views
from tissueseg.errors import ConfigError

ORIGIN = (256, 512)
RGB = np.random.default_rng(0).integers(0, 256, (3, 24, 20), dtype=np.uint8)
EIGHT = [View(element) for element in range(8)]
# Offsets to a nucleus' centre turn like vectors: (horizontal, vertical) after, from those before.
TURNS = ["+h +v", "+v -h", "-h -v", "-v +h", "-h +v", "+v +h", "+h -v", "-v -h"]
untimed = settings(deadline=None, max_examples=50)
elements = st.integers(0, 7)
planes = arrays(np.int16, array_shapes(min_dims=2, max_dims=4, max_side=7))


@untimed
@given(elements, planes)
def test_what_is_turned_can_be_turned_back(element, plane):
    turned = View(element).turned(plane)
    assert any(np.array_equal(view.turned(turned), plane) for view in EIGHT)
    assert turned.flags.c_contiguous
    assert (turned is plane) == (element == 0)  # no copy in vain


@untimed
@given(elements, elements)
def test_eight_elements_are_a_group(first, second):
    plane = np.arange(6).reshape(2, 3)  # not symmetric
    seen = {(view.turned(plane).shape, view.turned(plane).tobytes()) for view in EIGHT}
    both = View(second).turned(View(first).turned(plane))
    assert len(seen) == 8
    assert (both.shape, both.tobytes()) in seen


@pytest.mark.parametrize("count", [1, 4, 8])
def test_quarter_turns_counter_clockwise_come_first_then_mirrored_ones(count):
    turned = ["1234", "2413", "4321", "3142", "2143", "1324", "3412", "4231"]
    views, plane = Views(count), np.array([[1, 2], [3, 4]])
    shown = [views.view(i, "a", ORIGIN).turned(plane) for i in range(len(views))]
    assert ["".join(map(str, plane.ravel())) for plane in shown] == turned[:count]


def offsets(labels: np.ndarray) -> np.ndarray:
    """(2, H, W): horizontal and vertical distance of every nucleus' pixels to their mean."""
    maps = np.zeros((2, *labels.shape))
    for label in np.unique(labels[labels > 0]):
        rows, columns = np.nonzero(labels == label)
        maps[:, rows, columns] = columns - columns.mean(), rows - rows.mean()
    return maps


@pytest.mark.parametrize(("element", "made_of"), list(enumerate(TURNS)))
def test_offsets_of_turned_labels_are_the_signed_and_swapped_turn_of_those_before(element, made_of):
    labels = np.zeros((9, 12), np.int32)
    labels[1:4, 2:7], labels[4, 2], labels[5:9, 8:10], labels[8, 10] = 1, 1, 2, 2
    before, after = offsets(labels), offsets(View(element).turned(labels))
    turned = dict(zip("hv", View(element).turned(before), strict=True))
    expected = [float(f"{sign}1") * turned[axis] for sign, axis in made_of.split()]
    np.testing.assert_allclose(after, expected, atol=1e-12)
    # Turning stored maps as if they were images is right for no element but the identity.
    assert np.allclose(after, View(element).turned(before)) == (element == 0)


@untimed
@given(st.tuples(*[st.floats(0.5, 1.5)] * 3), st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_stain_jitter_is_that_of_colour_deconvolution(scale, shift):
    density = -np.log10((RGB.reshape(3, -1).T + 1.0) / 256)
    stains = np.linalg.solve(HED.T, density.T).T * scale + shift
    expected = (256 * 10 ** -(stains @ HED) - 1).T.reshape(RGB.shape).clip(0, 255)
    altered = HedJitter(scale, shift)(RGB)
    assert altered.dtype == np.uint8
    np.testing.assert_allclose(altered, expected, atol=0.51)


def test_drawn_stains_fill_the_stated_range_without_bias():
    views = Views(extra=64, he_jitter=0.2)
    jitters = [views.view(i, "a", (0, x)).jitter for i in range(1, 65) for x in range(8)]
    drawn = np.array([[*(np.array(j.scale) - 1), *j.shift] for j in jitters])
    assert 0.19 < np.abs(drawn).max() <= 0.2
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(6), atol=0.2)  # six draws, not fewer


def test_jitter_that_changes_no_stain_changes_no_colour():
    rgb = np.stack([np.roll(np.arange(256, dtype=np.uint8), n) for n in (0, 31, 77)])[:, None]
    assert np.array_equal(HedJitter((1, 1, 1), (0, 0, 0))(rgb), rgb)


def test_stain_does_not_depend_on_what_lies_around_or_on_the_turn():
    view = Views(8, extra=2).view(9, "Gewebe µ", ORIGIN)  # a half turn
    part = np.s_[:, 3:9, 5:17]
    assert np.array_equal(view.stained(RGB)[part], view.stained(RGB[part]))
    assert np.array_equal(view.turned(view.stained(RGB)), view.stained(view.turned(RGB)))


def test_dihedral_views_and_strengths_of_zero_alter_nothing():
    present, none = np.array([True, False, True]), Views(4, 2, he_jitter=0, sp_dropout=0)
    for view in (Views(4, 2).view(3, "a", ORIGIN), none.view(5, "a", ORIGIN)):
        assert view.stained(RGB) is RGB
        assert view.kept(present) is present


@untimed
@given(st.integers(0, 10_000), arrays(bool, st.integers(0, 40)), st.floats(0, 0.999))
def test_dropout_leaves_some_present_channel_and_no_absent_one(x, present, dropout):
    kept = Views(extra=1, sp_dropout=dropout).view(1, "a", (0, x)).kept(present)
    assert not (kept & ~present).any()
    assert kept.any() == present.any()


def test_share_of_channels_dropped_is_the_configured_one():
    present = np.arange(50) % 5 > 0  # 40 of 50
    views = Views(extra=2, sp_dropout=0.3)
    kept = [views.view(i, "a", (y, 0)).kept(present) for i in (1, 2) for y in range(400)]
    dropped = 1 - np.mean(kept, axis=0)[present]
    assert dropped.mean() == pytest.approx(0.3, abs=0.01)
    assert np.abs(dropped - 0.3).max() < 0.08  # of every channel


@pytest.mark.parametrize("count", [1, 4, 8])
def test_extra_views_turn_too_but_only_as_dihedral_ones_do(count):
    views = Views(count, extra=2)
    seen = np.bincount([views.view(count + 1, "a", (0, x)).element for x in range(400)])
    assert len(seen) == count
    assert seen.min() > 200 / count


def test_every_part_of_the_key_makes_another_extra_view():
    views, present = Views(8, extra=3), np.ones(200, bool)
    keys = [(8, "a", (0, 256)), (9, "a", (0, 256)), (8, "b", (0, 256)), (8, "a", (256, 0))]
    made = [views.view(*key) for key in keys]
    made.append(Views(8, extra=3, seed=1).view(*keys[0]))
    assert len({view.stained(RGB).tobytes() for view in made}) == len(made)
    assert len({view.kept(present).tobytes() for view in made}) == len(made)
    assert views.view(np.int64(8), "a", (np.int64(0), np.int64(256))) == made[0]


PRINTS_A_VIEW = """
import numpy as np
from tissueseg.data.views import Views
view = Views(8, extra=2, sp_dropout=0.4).view(9, "Gewebe µ", (256, 512))
image = (np.arange(3 * 64) * 37 % 256).astype(np.uint8).reshape(3, 8, 8)
drawn = Views(8, extra=2).drawn(3, 7, np.arange(20))
print(view, view.stained(image).tolist(), view.kept(np.ones(64, bool)), drawn, hash("a"))
"""


def test_views_are_the_same_in_every_process():
    run, seeds = [sys.executable, "-c", PRINTS_A_VIEW], [{"PYTHONHASHSEED": s} for s in "12"]
    outputs = [subprocess.check_output(run, env=os.environ | seed) for seed in seeds]
    (first, hashed), (second, hashed_otherwise) = (out.rsplit(b" ", 1) for out in outputs)
    assert first == second
    assert hashed != hashed_otherwise  # as Python's own hash would have it


def test_what_older_stores_and_runs_drew_is_drawn_again():
    view = Views(8, extra=2, sp_dropout=0.4).view(9, "Gewebe µ", ORIGIN)
    assert view.element == 2
    assert view.jitter.scale == pytest.approx((1.00924137849, 1.04242524393, 0.98240497471))
    assert view.jitter.shift == pytest.approx((-0.0037773867, 0.0178781478, -0.0378674509))
    assert np.flatnonzero(view.kept(np.ones(12, bool))).tolist() == [2, 3, 5, 8, 10]
    items = Views(8, extra=3).drawn(5, 2, np.arange(12))  # agrees with the published SplitMix64
    assert items.tolist() == [9, 1, 4, 10, 3, 2, 8, 6, 3, 6, 10, 1]


def test_an_item_gets_its_view_whatever_else_is_drawn_but_another_in_other_epochs():
    views, items = Views(8, extra=2), np.arange(4000)
    whole = views.drawn(0, 0, items)
    assert np.array_equal(views.drawn(0, 0, items[::-1]), whole[::-1])
    assert [int(views.drawn(0, 0, np.array([i]))[0]) for i in items[:50]] == whole[:50].tolist()
    for other in (views.drawn(0, 1, items), views.drawn(1, 0, items)):
        assert np.mean(whole == other) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("dihedral", "extra"), [(1, 0), (4, 0), (8, 0), (8, 3), (1, 64)])
def test_all_views_are_equally_likely_over_items_and_over_epochs(dihedral, extra):
    views = Views(dihedral, extra)
    over_items = views.drawn(1, 4, np.arange(20_000))
    over_epochs = np.concatenate([views.drawn(1, epoch, np.arange(8)) for epoch in range(2500)])
    for drawn in (over_items, over_epochs):
        seen, mean = np.bincount(drawn, minlength=len(views)), len(drawn) / len(views)
        assert ((seen - mean) ** 2 / mean).sum() < len(views) + 5 * np.sqrt(2 * len(views))


def test_covers_what_is_stored_and_nothing_else():
    store, altered = Views(8, 4), ({"seed": 1}, {"he_jitter": 0.1}, {"sp_dropout": 0.2})
    held = [store, Views(8, 2), *(Views(4, **other) for other in altered)]  # no extra one asked for
    assert all(store.covers(other) for other in held)
    lacking = [Views(8, 5), Views(4, 2), *(Views(8, 2, **other) for other in altered)]
    assert not any(store.covers(other) for other in lacking)  # Views(4, 2) turns among four
    assert not Views(4, 60).covers(Views(8))


views_drawn = st.builds(Views, st.sampled_from([1, 4, 8]), st.integers(0, 4))


@untimed
@given(views_drawn, views_drawn)
def test_views_are_found_where_they_are_stored(store, wanted):
    if store.covers(wanted):
        for index in range(len(wanted)):
            assert store.view(index, "a", ORIGIN) == wanted.view(index, "a", ORIGIN)


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_no_view_beyond_the_last(index):
    with pytest.raises(IndexError, match=f"view {index} of 5"):
        Views(4, extra=1).view(index, "a", ORIGIN)


def test_views_are_plain_types_and_come_back():
    plain = Views(4, extra=2, he_jitter=0, sp_dropout=0).as_dict()
    wanted = {"dihedral": 4, "extra": 2, "he_jitter": 0.0, "sp_dropout": 0.0, "seed": 0}
    assert repr(plain) == repr(wanted)  # 0.0, not 0
    assert Views(**plain).as_dict() == plain


WRONG = {
    "dihedral": [0, 2, 16, True, 4.0, "8", None],
    "extra": [-1, 65, True, 1.0, "1", None],
    "he_jitter": [-0.01, 0.51, float("nan"), float("inf"), True, "0.1", None],
    "sp_dropout": [-0.01, 1, 1.0, float("nan"), float("inf"), False, "a\nb", None],
    "seed": [-1, 2**32, True, 0.0, "0", None],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in WRONG.items() for v in values])
def test_options_that_cannot_be_used(key, value):
    with pytest.raises(ConfigError) as caught:
        Views(**{key: value})
    assert str(caught.value).startswith(f"views.{key}={value!r} cannot be used: choose ")
    assert "\n" not in str(caught.value)
