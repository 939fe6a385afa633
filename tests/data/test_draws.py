"""Random bits by number: SplitMix64, whatever numbers are asked for beside one."""

import numpy as np

from tissueseg.data.draws import drawn_bits


def test_bits_are_splitmix64_s():
    """Numbers of the reference program (https://prng.di.unimi.it/splitmix64.c), run by hand."""
    mask, wanted = 2**64 - 1, []
    state = int(np.random.SeedSequence((7, 3)).generate_state(1, np.uint64)[0])
    for _ in range(5):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        wanted.append(z ^ (z >> 31))
    assert drawn_bits((7, 3), np.arange(5)).tolist() == wanted


def test_a_number_s_bits_depend_on_no_other_number():
    all_of_them = drawn_bits((1, 2), np.arange(100))
    some = np.array([5, 99, 5, 0])
    assert drawn_bits((1, 2), some).tolist() == all_of_them[some].tolist()
    assert drawn_bits((1, 2), np.int64(5)).tolist() == [all_of_them[5]]
    assert len(drawn_bits((1, 2), np.array([], np.int64))) == 0


def test_keys_choose_sequences_that_share_nothing():
    keys = [(0, 0), (0, 1), (1, 0), (0, 0, 1), (0, 1, 1)]
    found = [set(drawn_bits(key, np.arange(1000)).tolist()) for key in keys]
    assert len(set.union(*found)) == 5000
