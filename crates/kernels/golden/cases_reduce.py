"""Cases of reductions, softmax and its kin."""

import numpy as np
import torch

REDUCE_AXES = [((7,), (0,)), ((3, 5), (0,)), ((3, 5), (1,)), ((2, 3, 5), (1,)), ((2, 3, 5), (0, 2)), ((2, 3, 5), (0, 1, 2)), ((4, 257), (1,)), ((257, 3), (0,))]


def reduction(compute, draw):
    def make(g):
        for shape, axes in REDUCE_AXES:
            for keepdim in (False, True):
                g.case([draw(g, shape)], lambda x: compute(x, axes, keepdim), axes=list(axes), keepdim=keepdim)

    return make


def prod_over(x, axes, keepdim):
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


sum_ = reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep), lambda g, s: g.normal(*s))
mean = reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep), lambda g, s: g.normal(*s))
max_ = reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep), lambda g, s: g.distinct(*s))
min_ = reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep), lambda g, s: g.distinct(*s))


def prod(g):
    signs = lambda shape: np.where(g.rng.random(shape) < 0.5, -1, 1).astype(np.float32)
    reduction(prod_over, lambda g, s: g.uniform(0.7, 1.4, *s) * signs(s))(g)
    # A zero in a row: the gradient is not the product divided by the factor. Two zeros: none is left.
    x = g.uniform(0.7, 1.4, 4, 6)
    x[0, 2] = x[2, 0] = x[2, 3] = 0.0
    g.case([x], lambda x: x.prod(1), axes=[1], keepdim=False, zeros=True)


def var(g):
    for correction in (0, 1):
        for shape, axes in REDUCE_AXES:
            for keepdim in (False, True):
                g.case(
                    [g.normal(*shape) + 1.0],
                    lambda x: x.var(axes, correction=correction, keepdim=keepdim),
                    axes=list(axes), keepdim=keepdim, correction=correction,
                )
    # The mean is a thousand times the deviation: the difference of two sums of squares would lose it.
    g.case([g.normal(5, 65) + 1000.0], lambda x: x.var((1,), correction=1), axes=[1], keepdim=False, correction=1)


def arg_reduction(name):
    compute = getattr(torch, name)

    def make(g):
        for shape, axis in [((7,), 0), ((3, 5), 0), ((3, 5), 1), ((2, 3, 5), 1), ((4, 257), 1), ((300, 3), 0)]:
            for keepdim in (False, True):
                g.case([g.distinct(*shape)], lambda x: compute(x, axis, keepdim), grad=False, axis=axis, keepdim=keepdim)
        # The first of equals is the answer.
        ties = np.array([[1, 3, 3, 0, 0], [2, 2, 2, 2, 2], [-1, 0, -1, 0, -1]], np.float32)
        expected = getattr(np, name)(ties, axis=1)
        assert (compute(torch.from_numpy(ties), 1).numpy() == expected).all()
        g.case([ties], lambda x: compute(x, 1), grad=False, axis=1, keepdim=False, ties=True)

    return make


def along_axis(compute, keepdims=(None,)):
    def make(g):
        def add(x, axis, keepdim):
            attrs = {} if keepdim is None else {"keepdim": keepdim}
            g.case([x], lambda x: compute(x, axis, keepdim), axis=axis, **attrs)

        for keepdim in keepdims:
            for shape, axis in [((1,), 0), ((7,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 3, 5), 1), ((5, 33), 1), ((2, 257), 1)]:
                add(g.normal(*shape, scale=2.0), axis, keepdim)
            add(g.normal(3, 9, scale=40.0), 1, keepdim)
            # exp would overflow without the shift by the maximum.
            add(g.normal(3, 9) + np.float32(1000.0), 1, keepdim)
            add(np.full((2, 6), 3.0, np.float32), 1, keepdim)

    return make


softmax = along_axis(lambda x, axis, _: x.softmax(axis))
log_softmax = along_axis(lambda x, axis, _: x.log_softmax(axis))
logsumexp = along_axis(lambda x, axis, keep: x.logsumexp(axis, keepdim=keep), (False, True))


# The file's name and what fills it.
CASES = {
    "sum": sum_,
    "mean": mean,
    "max": max_,
    "min": min_,
    "prod": prod,
    "var": var,
    "argmax": arg_reduction("argmax"),
    "argmin": arg_reduction("argmin"),
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
}
