"""Cases of gathering, scattering, moving, ordering."""

import numpy as np
import torch
import torch.nn.functional as F


def gather(g):
    for shape, axis, length in [((7,), 0, 5), ((4, 5), 1, 3), ((4, 5), 0, 6), ((3, 4, 5), 1, 2), ((2, 300), 1, 7)]:
        index_shape = shape[:axis] + (length,) + shape[axis + 1 :]
        g.case([g.normal(*shape), g.ints(shape[axis], *index_shape)], lambda x, i: x.gather(axis, i), axis=axis)
    # The same element many times: its gradient is the sum.
    g.case([g.normal(3, 4), np.full((3, 9), 2, np.int32)], lambda x, i: x.gather(1, i), axis=1)


def index_select(g):
    for shape, axis, length in [((7,), 0, 5), ((4, 5), 1, 8), ((4, 5), 0, 3), ((3, 4, 5), 1, 6)]:
        g.case([g.normal(*shape), g.ints(shape[axis], length)], lambda x, i: x.index_select(axis, i), axis=axis)


def scatter_add(g):
    for shape, axis, length in [((7,), 0, 5), ((4, 5), 1, 3), ((4, 5), 0, 9), ((3, 4, 5), 1, 6), ((2, 7), 1, 300)]:
        index_shape = shape[:axis] + (length,) + shape[axis + 1 :]
        g.case(
            [g.normal(*shape), g.ints(shape[axis], *index_shape), g.normal(*index_shape)],
            lambda x, i, s: x.scatter_add(axis, i, s), axis=axis,
        )


def embedding(g):
    for rows, width, ids in [(5, 3, (4,)), (11, 7, (2, 6)), (3, 1, (9,)), (40, 33, (3, 5))]:
        g.case([g.normal(rows, width), g.ints(rows, *ids)], lambda table, ids: F.embedding(ids, table))


def concat(g):
    for shapes, axis in [([(3,), (4,)], 0), ([(2, 3), (2, 5)], 1), ([(2, 3), (4, 3), (1, 3)], 0), ([(2, 3, 4), (2, 1, 4)], 1), ([(2, 3)], 1)]:
        g.case([g.normal(*s) for s in shapes], lambda *xs: torch.cat(xs, axis), axis=axis)


def slice_(g):
    for shape, start, stop, step in [
        ((7,), [2], [5], [1]),
        ((5, 6), [0, 1], [5, 4], [1, 1]),
        ((5, 6), [1, 0], [4, 6], [1, 2]),
        ((4, 5, 6), [1, 2, 0], [3, 5, 6], [1, 2, 3]),
        ((3, 4), [0, 0], [3, 4], [1, 1]),
    ]:
        window = tuple(slice(*w) for w in zip(start, stop, step))
        g.case([g.normal(*shape)], lambda x: x[window], start=start, stop=stop, step=step)


def pad(g):
    for shape, before, after, value in [((5,), [2], [1], 0.0), ((3, 4), [0, 1], [2, 0], 0.0), ((2, 3, 4), [1, 0, 2], [0, 2, 1], -1.5), ((1, 2, 3, 3), [0, 0, 1, 1], [0, 0, 1, 1], 0.0)]:
        # PyTorch lists the last axis first.
        widths = [w for pair in reversed(list(zip(before, after))) for w in pair]
        g.case([g.normal(*shape)], lambda x: F.pad(x, widths, value=value), before=before, after=after, value=value)


def where(g):
    for c, a, b in [((5,), (5,), (5,)), ((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), (3, 4)), ((2, 3, 4), (1,), (3, 1))]:
        condition = g.rng.random(c) < 0.5
        g.case([condition, g.normal(*a), g.normal(*b)], torch.where)
    # What is not chosen must not leak, neither forward nor back.
    values = np.array([1, np.nan, np.inf, 2], np.float32)
    g.case([np.array([True, False, False, True]), values, g.normal(4)], torch.where, nonfinite=True)


def topk(g):
    for shape, axis, k in [((7,), 0, 3), ((3, 5), 1, 1), ((3, 5), 1, 5), ((6, 4), 0, 2), ((2, 5, 3), 1, 2), ((3, 300), 1, 10)]:
        for largest in (True, False):
            g.case([g.distinct(*shape)], lambda x: tuple(x.topk(k, axis, largest, True)), k=k, axis=axis, largest=largest)


def sort(g):
    for shape, axis in [((1,), 0), ((7,), 0), ((3, 5), 1), ((6, 4), 0), ((2, 5, 3), 1), ((2, 33), 1), ((2, 300), 1)]:
        for descending in (False, True):
            g.case([g.distinct(*shape)], lambda x: tuple(x.sort(dim=axis, descending=descending, stable=True)), axis=axis, descending=descending)
    # Stable: equals keep their order, whichever way is sorted.
    for descending in (False, True):
        ties = g.ints(3, 2, 40).astype(np.float32)
        g.case([ties], lambda x: tuple(x.sort(dim=1, descending=descending, stable=True)), grad=False, axis=1, descending=descending, ties=True)


def cumsum(g):
    for shape, axis in [((1,), 0), ((7,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 5, 3), 1), ((2, 257), 1), ((1025,), 0)]:
        g.case([g.normal(*shape)], lambda x: x.cumsum(axis), axis=axis)


# The file's name and what fills it.
CASES = {
    "gather": gather,
    "index_select": index_select,
    "scatter_add": scatter_add,
    "embedding": embedding,
    "concat": concat,
    "slice": slice_,
    "pad": pad,
    "where": where,
    "topk": topk,
    "sort": sort,
    "cumsum": cumsum,
}
