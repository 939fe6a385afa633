"""The heaviest matching of a sparse bipartite graph, exact, for graphs of millions of small clusters.

Solvers of the assignment problem take the square or cube of the number of nodes. But nearly every
nucleus has one partner that leaves no choice; those pairs are found for all at once, and what remains
falls into components of a few nodes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_WORTHWHILE = 0.05  # of the pairs must be sure, or there is no further round of taking them
_DENSE_CELLS = 2**22  # larger components are matched without a matrix of all their pairs


class _Component(NamedTuple):
    """A connected part of a graph, with nodes of its own numbering."""

    pairs: _Ints  # (k,) rows into the graph's pairs
    left: _Ints  # (k,)
    right: _Ints  # (k,)


def heaviest_matching(left: _Ints, right: _Ints, weight: _Floats) -> _Ints:
    """Choose pairs so that no node is in two and the sum of weights is as large as can be.

    Where several choices are as good, which one is taken depends on the order of pairs.

    Args:
        left: (k,) node of each pair on one side, from 0.
        right: (k,) on the other.
        weight: (k,) above 0.

    Returns:
        (c,) the pairs chosen, increasing.
    """
    pairs, chosen = np.arange(len(weight)), []
    worthwhile = True
    while pairs.size and worthwhile:
        sure = pairs[_sure(left[pairs], right[pairs], weight[pairs])]
        chosen.append(sure)
        taken = _among(left, sure)[left[pairs]] | _among(right, sure)[right[pairs]]
        worthwhile = len(sure) >= _WORTHWHILE * len(pairs)
        pairs = pairs[~taken]
    for part in _components(left[pairs], right[pairs]):
        rest = pairs[part.pairs]
        chosen.append(rest[_solve(part.left, part.right, weight[rest])])
    return np.sort(np.concatenate([pairs[:0], *chosen]))


def _among(nodes: _Ints, pairs: _Ints) -> NDArray[np.bool_]:
    """Of every node, whether it is in one of these pairs."""
    among = np.zeros(nodes.max() + 1, dtype=bool)
    among[nodes[pairs]] = True
    return among


def _sure(left: _Ints, right: _Ints, weight: _Floats) -> _Ints:
    """Pairs that some heaviest matching has, no two with a node in common.

    A pair that weighs as much as the best other pair of its left node and that of its right node
    together may replace them in any matching.
    """
    sure = np.flatnonzero(weight >= _best_other(left, weight) + _best_other(right, weight))
    for node in (left, right):  # of pairs that tie, the first
        first = np.empty(node.max() + 1, np.int64)
        first[node[sure[::-1]]] = sure[::-1]
        sure = sure[first[node[sure]] == sure]
    return sure


def _best_other(node: _Ints, weight: _Floats) -> _Floats:
    """(k,) for each pair, the largest weight of the other pairs of its node; 0 if it has none."""
    best, second = np.zeros(node.max() + 1), np.zeros(node.max() + 1)
    np.maximum.at(best, node, weight)
    top = weight == best[node]
    np.maximum.at(second, node[~top], weight[~top])
    tied = np.bincount(node[top], minlength=len(best)) > 1
    second[tied] = best[tied]
    return np.where(top, second[node], best[node])


def _components(left: _Ints, right: _Ints) -> Iterator[_Component]:
    """Cut a graph into its connected parts."""
    if not left.size:
        return
    left, right = (np.unique(node, return_inverse=True)[1] for node in (left, right))
    n = int(left.max()) + 1
    nodes = n + int(right.max()) + 1
    graph = coo_array((np.ones(left.size, np.int8), (left, right + n)), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1]
    pairs = np.argsort(component[left], kind="stable")
    own_left = _numbered(component[:n])[left[pairs]]
    own_right = _numbered(component[n:])[right[pairs]]
    cuts = np.flatnonzero(np.diff(component[left[pairs]])) + 1
    yield from map(_Component, *(np.split(field, cuts) for field in (pairs, own_left, own_right)))


def _numbered(component: _Ints) -> _Ints:
    """(n,) number of each node among those of its component."""
    order = np.argsort(component, kind="stable")
    size = np.bincount(component)
    number = np.empty_like(order)
    number[order] = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    return number


def _solve(left: _Ints, right: _Ints, weight: _Floats) -> _Ints:
    """Rows of the heaviest matching of one component."""
    n, m = int(left.max()) + 1, int(right.max()) + 1
    if n * m > _DENSE_CELLS:
        return _solve_sparse(left, right, weight)
    matrix = np.zeros((n, m))
    matrix[left, right] = weight
    partner = np.full(n, -1)
    row, column = linear_sum_assignment(matrix, maximize=True)
    partner[row] = column
    return np.flatnonzero(partner[left] == right)


def _solve_sparse(left: _Ints, right: _Ints, weight: _Floats) -> _Ints:
    """The same where every node may stay alone, told as a matching that leaves none alone.

    Every node gets a stand-in on the other side, its partner if it has no better one; stand-ins of two
    nodes that are matched are partners themselves. All matchings then have as many pairs, so adding one
    number to every cost changes nothing but that the solver sees no zeros, which it takes for holes.
    """
    n, m = int(left.max()) + 1, int(right.max()) + 1
    lefts, rights = np.arange(n), np.arange(m)
    row = np.concatenate([left, lefts, n + rights, n + right])
    column = np.concatenate([right, m + lefts, rights, m + left])
    most = 2 * float(weight.max())
    cost = np.full(len(row), most)
    cost[: len(weight)] -= weight
    graph = coo_array((cost, (row, column)), shape=(n + m, n + m)).tocsr()
    partner = np.empty(n + m, np.int64)
    rows, columns = min_weight_full_bipartite_matching(graph)
    partner[rows] = columns
    return np.flatnonzero(partner[left] == right)
