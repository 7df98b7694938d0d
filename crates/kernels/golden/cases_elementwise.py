"""Cases of element-wise functions and comparisons."""

import numpy as np
import torch
import torch.nn.functional as F

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


# The file's name and what fills it.
CASES = {
    "unary": unary,
    "binary": binary,
    "comparisons": comparisons,
}
