"""Cases of losses."""

import numpy as np
import torch
import torch.nn.functional as F


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


# The file's name and what fills it.
CASES = {
    "mse": mse,
    "huber": huber,
    "cross_entropy": cross_entropy,
    "bce_with_logits": bce_with_logits,
    "kl_div": kl_div,
}
