"""Golden vectors of the ops, made with PyTorch: `python make.py` writes them, `python make.py --check` compares.

Inputs are f32. Results and gradients are computed in float64 from exactly these inputs and rounded to f32 once.
The layout of the files is in README.md.
"""

import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import store

HERE = Path(__file__).resolve().parent


class Golden:
    """The cases of one file."""

    def __init__(self, name):
        self.name, self.tensors, self.metadata, self.n_cases = name, {}, {}, 0
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0):
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def distinct(self, *shape):
        """No two values closer than an eighth: maxima and orders have one answer, and a kink is far."""
        n = int(np.prod(shape))
        values = (np.arange(n) - n / 2 + 0.25) * 0.125
        return self.rng.permutation(values).reshape(shape).astype(np.float32)

    def ints(self, high, *shape):
        return self.rng.integers(0, high, shape).astype(np.int32)

    def case(self, inputs, compute, grad=True, op=None, **attrs):
        """Adds a case: `compute` takes the inputs as float64 (or int64, or bool) tensors and gives one output or a tuple."""
        prefix = f"case{self.n_cases}"
        torch_inputs = []
        for i, x in enumerate(inputs):
            self.tensors[f"{prefix}.in{i}"] = np.asarray(x)
            x = torch.from_numpy(np.array(x))
            if x.dtype == torch.float32:
                x = x.double().requires_grad_(grad)
            elif x.dtype == torch.int32:
                x = x.long()
            torch_inputs.append(x)
        outputs = compute(*torch_inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        upstream = []
        for j, y in enumerate(outputs):
            self.tensors[f"{prefix}.out{j}"] = y.detach()
            if grad and y.requires_grad:
                d = np.float32(self.rng.standard_normal(tuple(y.shape)))
                self.tensors[f"{prefix}.dout{j}"] = d
                upstream.append((y, torch.from_numpy(np.asarray(d)).double()))
        if upstream:
            wanted = [(i, x) for i, x in enumerate(torch_inputs) if x.requires_grad]
            ys, ds = zip(*upstream)
            gradients = torch.autograd.grad(ys, [x for _, x in wanted], ds, allow_unused=True)
            for (i, _), g in zip(wanted, gradients):
                if g is not None:
                    self.tensors[f"{prefix}.din{i}"] = g
        self.metadata[prefix] = {"op": op or self.name, **attrs}
        self.n_cases += 1

    def write(self, folder):
        path = Path(folder) / f"{self.name}.safetensors"
        store.write(path, self.tensors, {**self.metadata, "n_cases": self.n_cases})
        return path


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


def batch_norm(g):
    eps = 1e-5

    def normalize(mode, number=None, stop_gradient=False):
        def compute(x, gamma, beta, mean_s, var_s):
            axes = [0, 2, 3][: x.dim() - 1] if x.dim() == 4 else [0]
            shape = [1, -1] + [1] * (x.dim() - 2)
            count = x.numel() // x.shape[1]
            mean_t, var_t = x.mean(axes), x.var(axes, correction=0)
            unbiased = var_t * (count / (count - 1))
            if mode == "source":
                mean_, var_ = mean_s, var_s
            elif mode in ("batch", "train"):
                mean_, var_ = mean_t, var_t
            elif mode == "alpha":
                mean_, var_ = (1 - number) * mean_s + number * mean_t, (1 - number) * var_s + number * unbiased
            elif mode == "prior":
                w = number / (number + x.shape[0])
                mean_, var_ = w * mean_s + (1 - w) * mean_t, w * var_s + (1 - w) * var_t
            new_mean = new_var = None
            if mode in ("ema", "train"):
                new_mean, new_var = (1 - number) * mean_s + number * mean_t, (1 - number) * var_s + number * unbiased
                # Buffers are state, no part of what is differentiated, unless the case says so.
                if mode == "ema":
                    mean_, var_ = (new_mean.detach(), new_var.detach()) if stop_gradient else (new_mean, new_var)
                new_mean, new_var = new_mean.detach(), new_var.detach()
            y = (x - mean_.view(shape)) / (var_.view(shape) + eps).sqrt() * gamma.view(shape) + beta.view(shape)
            if mode in ("source", "train"):
                # The formula above is PyTorch's own.
                known = F.batch_norm(x, mean_s.detach().clone(), var_s.detach().clone(), gamma, beta, mode == "train", 0.0, eps)
                assert torch.allclose(y, known, rtol=1e-12, atol=1e-12)
            return y if new_mean is None else (y, new_mean, new_var)

        return compute

    modes = [("source", None), ("batch", None), ("train", ("momentum", 0.1)), ("alpha", ("alpha", 0.1)), ("alpha", ("alpha", 0.0)),
             ("alpha", ("alpha", 1.0)), ("prior", ("prior", 16)), ("ema", ("momentum", 0.1))]
    for mode, parameter in modes:
        for shape in [(5, 3), (2, 3, 4, 5), (1, 4, 6, 6), (7, 2, 3, 3)]:
            c = shape[1]
            for stop_gradient in (False, True) if mode == "ema" else (False,):
                x = g.normal(*shape, scale=1.5) + g.normal(1, c, *[1] * (len(shape) - 2))
                inputs = [x, g.uniform(0.5, 1.5, c), g.normal(c), g.normal(c, scale=0.5), g.uniform(0.3, 2.0, c)]
                attrs = {"mode": mode, "eps": eps}
                if parameter:
                    attrs[parameter[0]] = parameter[1]
                if mode == "ema":
                    attrs["stop_gradient"] = stop_gradient
                g.case(inputs, normalize(mode, parameter and parameter[1], stop_gradient), **attrs)


def layer_norm(g):
    for shape, n_axes in [((3, 7), 1), ((2, 3, 5), 1), ((2, 3, 5), 2), ((4, 257), 1), ((2, 3, 4, 4), 3)]:
        axes, tail = list(range(len(shape) - n_axes, len(shape))), shape[len(shape) - n_axes :]
        x = lambda: g.normal(*shape, scale=2.0) + np.float32(0.5)
        g.case(
            [x(), g.uniform(0.5, 1.5, *tail), g.normal(*tail)],
            lambda x, w, b: F.layer_norm(x, tail, w, b, 1e-5), axes=axes, eps=1e-5, affine=True,
        )
        g.case([x()], lambda x: F.layer_norm(x, tail, eps=1e-5), axes=axes, eps=1e-5, affine=False)


def group_norm(g):
    for shape, groups in [((2, 4, 3, 3), 2), ((2, 4, 3, 3), 4), ((1, 6, 5, 4), 1), ((3, 6, 7), 3), ((2, 8), 2)]:
        c = shape[1]
        x = lambda: g.normal(*shape, scale=2.0) - np.float32(0.5)
        g.case(
            [x(), g.uniform(0.5, 1.5, c), g.normal(c)],
            lambda x, w, b: F.group_norm(x, groups, w, b, 1e-5), groups=groups, eps=1e-5, affine=True,
        )
        g.case([x()], lambda x: F.group_norm(x, groups, eps=1e-5), groups=groups, eps=1e-5, affine=False)


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


def comparisons(g):
    for op in ("eq", "ne", "lt", "le", "gt", "ge"):
        for a, b in [((5,), (5,)), ((3, 4), (4,)), ((2, 3, 1), (1, 4))]:
            # Few values, so that equals are met.
            inputs = [g.ints(3, *s).astype(np.float32) - 1.0 for s in (a, b)]
            g.case(inputs, getattr(torch, op), grad=False, op=op)
        g.case([np.array([0.0, -0.0, 1e-30, -1e30], np.float32), np.array([-0.0, 0.0, 0.0, 1e30], np.float32)], getattr(torch, op), grad=False, op=op)
        nan, inf = np.nan, np.inf
        pairs = np.array([[nan, nan, 1, inf, -inf, inf], [nan, 1, nan, inf, inf, 1]], np.float32)
        g.case(list(pairs), getattr(torch, op), grad=False, op=op, nonfinite=True)


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


ANY, POSITIVE = (-3.0, 3.0), (0.05, 4.0)
# op: (PyTorch's function, where gradients are drawn)
UNARY = {
    "neg": (torch.neg, ANY), "abs": (torch.abs, ANY), "exp": (torch.exp, ANY), "log": (torch.log, POSITIVE),
    "sqrt": (torch.sqrt, POSITIVE), "rsqrt": (torch.rsqrt, POSITIVE), "reciprocal": (torch.reciprocal, POSITIVE),
    "sin": (torch.sin, ANY), "cos": (torch.cos, ANY), "tanh": (torch.tanh, ANY), "sigmoid": (torch.sigmoid, ANY),
    "silu": (F.silu, ANY), "gelu": (F.gelu, ANY), "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), ANY),
    "erf": (torch.erf, ANY), "relu": (torch.relu, ANY), "relu6": (F.relu6, (-3.0, 9.0)), "softplus": (F.softplus, ANY),
    "log1p": (torch.log1p, (-0.9, 4.0)), "expm1": (torch.expm1, ANY), "floor": (torch.floor, ANY), "round": (torch.round, ANY),
    "ceil": (torch.ceil, ANY), "sign": (torch.sign, ANY), "square": (torch.square, ANY),
}  # fmt: skip
# Zeros of both signs, halves (round goes to the even neighbor), kinks, small and large values. Forward only.
EDGES = [0.0, -0.0, 1e-20, -1e-20, 1e-4, -1e-4, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 6.0, -6.0, 10.0, -10.0, 30.0, -30.0, 80.0, -80.0]


def unary(g):
    for op, (compute, domain) in UNARY.items():
        # No gradient at a kink: the nearest point of the draw is 1e-3 away from every half and whole number.
        x = g.uniform(*domain, 6, 11)
        near = np.abs(2 * x - np.round(2 * x)) < 2e-3
        g.case([np.where(near, x + np.float32(3e-3), x)], compute, op=op)
        edges = np.array(EDGES, np.float32)
        if domain == POSITIVE:
            edges = np.array([e for e in EDGES if e > 0], np.float32)
        elif op == "log1p":
            edges = edges[edges > -1]
        g.case([edges], compute, grad=False, op=op, edges=True)
        g.case([np.array([np.nan, np.inf, -np.inf], np.float32)], compute, grad=False, op=op, nonfinite=True)


BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum")


def binary(g):
    for op in BINARY:
        compute = getattr(torch, op)
        for a, b in [((5,), (5,)), ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 3, 4), (3, 1)), ((), (2, 3))]:
            x, y = g.normal(*a), g.normal(*b)
            if op == "pow":
                x = np.abs(x) + np.float32(0.2)
            if op == "div":
                y = np.where(y < 0, y - np.float32(0.3), y + np.float32(0.3))
            g.case([x, y], compute, op=op)
    powers = np.array([[0, 0, 0, -2, -2, -2, 4, 1e10, 2, -1.5], [0, 1, 2, 2, 3, -1, 0.5, 3, -3, 0]], np.float32)
    g.case(list(powers), torch.pow, grad=False, op="pow", edges=True)
    for op in ("maximum", "minimum"):
        ties = np.array([[0, 1, -1, 2], [0, 1, -1, -2]], np.float32)
        g.case(list(ties), getattr(torch, op), grad=False, op=op, edges=True)


def mse(g):
    for reduction in ("mean", "sum", "none"):
        for shape in [(7,), (3, 5), (2, 3, 4)]:
            g.case([g.normal(*shape), g.normal(*shape)], lambda x, t: F.mse_loss(x, t, reduction=reduction), reduction=reduction)


def huber(g):
    for reduction in ("mean", "sum", "none"):
        for delta in (1.0, 0.4):
            inputs = [g.normal(5, 7, scale=1.5), g.normal(5, 7)]
            g.case(inputs, lambda x, t: F.huber_loss(x, t, reduction=reduction, delta=delta), reduction=reduction, delta=delta)


def cross_entropy(g):
    for smoothing in (0.0, 0.1):
        for reduction in ("mean", "sum", "none"):
            for rows, classes in [(1, 3), (6, 10), (17, 33)]:
                g.case(
                    [g.normal(rows, classes, scale=3.0), g.ints(classes, rows)],
                    lambda z, y: F.cross_entropy(z, y, reduction=reduction, label_smoothing=smoothing),
                    reduction=reduction, label_smoothing=smoothing,
                )
        g.case(
            [g.normal(4, 5, scale=60.0), g.ints(5, 4)],
            lambda z, y: F.cross_entropy(z, y, label_smoothing=smoothing), reduction="mean", label_smoothing=smoothing,
        )


def bce_with_logits(g):
    for reduction in ("mean", "sum", "none"):
        for shape, scale in [((7,), 1.0), ((3, 5), 3.0), ((4, 4), 40.0)]:
            targets = g.uniform(0.0, 1.0, *shape)
            targets.flat[:2] = [0.0, 1.0]
            g.case(
                [g.normal(*shape, scale=scale), targets],
                lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction), reduction=reduction,
            )


def kl_div(g):
    for rows, classes in [(1, 3), (6, 10), (5, 33)]:
        log_p = torch.from_numpy(g.normal(rows, classes, scale=2.0)).double().log_softmax(1).numpy().astype(np.float32)
        q = torch.from_numpy(g.normal(rows, classes, scale=2.0)).double().softmax(1).numpy().astype(np.float32)
        for reduction in ("batchmean", "sum"):
            g.case([log_p, q], lambda x, t: F.kl_div(x, t, reduction=reduction), reduction=reduction)
    # 0 log 0 is 0; the gradient with respect to such a target is infinite, so none is kept.
    one_hot = np.eye(4, dtype=np.float32)[[2, 0]]
    log_p = torch.from_numpy(g.normal(2, 4)).double().log_softmax(1).numpy().astype(np.float32)
    g.case([log_p, one_hot], lambda x, t: F.kl_div(x, t, reduction="batchmean"), grad=False, reduction="batchmean", zeros=True)


# The file's name and what fills it. Python's own names get an underscore above.
OPS = {f.__name__: f for f in (
    matmul, conv2d, max_pool2d, avg_pool2d, global_avg_pool, prod, var, batch_norm, layer_norm, group_norm, gather, index_select,
    scatter_add, embedding, concat, pad, where, comparisons, topk, sort, cumsum, unary, binary, mse, huber, cross_entropy,
    bce_with_logits, kl_div,
)} | {
    "sum": sum_, "mean": mean, "max": max_, "min": min_, "slice": slice_, "argmax": arg_reduction("argmax"),
    "argmin": arg_reduction("argmin"), "softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp,
}  # fmt: skip


def main():
    check = sys.argv[1:] == ["--check"]
    # Threads change the order of sums, and with it the last bit.
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, fill in sorted(OPS.items()):
            golden = Golden(name)
            fill(golden)
            path = golden.write(scratch if check else HERE)
            assert path.stat().st_size < 200_000, f"{name}: {path.stat().st_size} bytes"
            if check and (why := store.difference(HERE / path.name, path)):
                print(f"{name}: {why}")
                failed = True
            else:
                print(f"{name}: {golden.n_cases} cases, {path.stat().st_size} bytes")
    sys.exit(failed)


if __name__ == "__main__":
    main()
