"""Cases of normalization."""

import numpy as np
import torch
import torch.nn.functional as F


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


# The file's name and what fills it.
CASES = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
}
