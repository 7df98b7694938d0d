"""Cases of products and pooling."""

import numpy as np
import torch.nn.functional as F


def matmul(g):
    def product(trans_a, trans_b):
        turn = lambda x, yes: x.transpose(-1, -2) if yes else x
        return lambda a, b: turn(a, trans_a) @ turn(b, trans_b)

    def add(a, b, trans_a=False, trans_b=False):
        g.case([g.normal(*a), g.normal(*b)], product(trans_a, trans_b), trans_a=trans_a, trans_b=trans_b)

    for m, k, n in [(1, 1, 1), (3, 5, 7), (2, 257, 3), (31, 33, 32), (65, 7, 63)]:
        add((m, k), (k, n))
    for trans_a in (False, True):
        for trans_b in (False, True):
            m, k, n = 17, 9, 13
            add((k, m) if trans_a else (m, k), (n, k) if trans_b else (k, n), trans_a, trans_b)
            add((3, k, m) if trans_a else (3, m, k), (3, n, k) if trans_b else (3, k, n), trans_a, trans_b)
    add((2, 3, 4, 5), (2, 3, 5, 6))
    # Batch axes broadcast: a missing one, one of length 1, and both at once.
    add((4, 5), (3, 5, 6))
    add((3, 4, 5), (5, 6))
    add((3, 1, 4, 5), (2, 5, 6))
    add((3, 1, 5, 4), (1, 2, 6, 5), True, True)


def conv2d(g):
    def add(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
        attrs = dict(stride=list(stride), padding=list(padding), dilation=list(dilation), groups=groups)
        g.case([g.normal(*x), g.normal(*w)], lambda x, w: F.conv2d(x, w, None, **attrs), **attrs)

    add((1, 1, 3, 3), (1, 1, 3, 3))
    add((2, 3, 7, 5), (4, 3, 3, 3), padding=(1, 1))
    add((2, 3, 8, 9), (5, 3, 3, 2), stride=(2, 3), padding=(1, 0))
    # With a stride that does not divide, the last rows and columns are not seen, and get no gradient.
    add((1, 2, 8, 8), (3, 2, 3, 3), stride=(2, 2))
    add((1, 2, 9, 10), (3, 2, 3, 3), padding=(2, 1), dilation=(2, 3))
    add((2, 2, 11, 11), (2, 2, 3, 3), stride=(2, 2), padding=(2, 2), dilation=(2, 2))
    add((2, 4, 6, 6), (6, 2, 3, 3), padding=(1, 1), groups=2)
    add((2, 4, 7, 7), (6, 2, 3, 3), stride=(2, 2), padding=(1, 1), groups=2)
    # Depthwise, with one and with two filters to a channel.
    add((2, 5, 6, 7), (5, 1, 3, 3), padding=(1, 1), groups=5)
    add((2, 3, 6, 6), (6, 1, 5, 5), stride=(2, 2), padding=(2, 2), groups=3)
    add((2, 7, 4, 5), (3, 7, 1, 1))
    add((2, 7, 5, 5), (3, 7, 1, 1), stride=(2, 2))
    # Padding wider than half the kernel.
    add((1, 2, 3, 3), (2, 2, 2, 2), padding=(2, 2))
    add((2, 16, 9, 9), (8, 16, 3, 3), padding=(1, 1))


def max_pool2d(g):
    def add(x, kernel, stride, padding=(0, 0), dilation=(1, 1)):
        attrs = dict(stride=list(stride), padding=list(padding), dilation=list(dilation))
        g.case([g.distinct(*x)], lambda x: F.max_pool2d(x, kernel, **attrs), kernel=list(kernel), **attrs)

    add((2, 3, 6, 8), (2, 2), (2, 2))
    add((2, 3, 7, 7), (3, 3), (2, 2), padding=(1, 1))
    add((1, 2, 5, 6), (3, 2), (1, 1))
    add((1, 2, 9, 9), (2, 3), (3, 2), padding=(1, 1))
    add((1, 2, 9, 9), (3, 3), (2, 2), padding=(1, 1), dilation=(2, 2))
    # All negative: padding must not win.
    g.case(
        [-1.0 - np.abs(g.distinct(1, 1, 4, 4))],
        lambda x: F.max_pool2d(x, 3, 1, 1),
        kernel=[3, 3], stride=[1, 1], padding=[1, 1], dilation=[1, 1],
    )


def avg_pool2d(g):
    for x, kernel, stride, padding in [
        ((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
        ((2, 3, 7, 7), (3, 3), (2, 2), (1, 1)),
        ((1, 2, 5, 6), (3, 2), (1, 1), (1, 0)),
        ((1, 2, 9, 8), (4, 5), (3, 2), (2, 1)),
    ]:
        for count_include_pad in (True, False):
            attrs = dict(stride=list(stride), padding=list(padding), count_include_pad=count_include_pad)
            g.case([g.normal(*x)], lambda x: F.avg_pool2d(x, kernel, **attrs), kernel=list(kernel), **attrs)


def global_avg_pool(g):
    for shape in [(2, 3, 5, 7), (1, 4, 1, 1), (3, 2, 8, 8)]:
        for keepdim in (False, True):
            g.case([g.normal(*shape)], lambda x: x.mean((2, 3), keepdim=keepdim), keepdim=keepdim)


# The file's name and what fills it.
CASES = {
    "matmul": matmul,
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
}
