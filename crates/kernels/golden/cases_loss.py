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


def softened(student, teacher, temperature):
    """Hinton's term as the tutorials have it: T^2 KL(teacher || student), `batchmean` over softened logits."""
    log_p, q = (student / temperature).log_softmax(1), (teacher.detach() / temperature).softmax(1)
    return temperature**2 * F.kl_div(log_p, q, reduction="batchmean")


def soft_kl(g):
    for temperature in (1.0, 4.0, 20.0):
        for rows, classes in [(1, 3), (6, 10), (5, 33)]:
            inputs = [g.normal(rows, classes, scale=4.0), g.normal(rows, classes, scale=8.0)]
            g.case(inputs, lambda z, t: softened(z, t, temperature), temperature=temperature)


def kd(g):
    for temperature, alpha in [(4.0, 0.9), (2.0, 0.5), (20.0, 1.0), (4.0, 0.0)]:
        inputs = [g.normal(6, 10, scale=3.0), g.normal(6, 10, scale=6.0), g.ints(10, 6)]
        g.case(
            inputs,
            lambda z, t, y: alpha * softened(z, t, temperature) + (1 - alpha) * F.cross_entropy(z, y),
            temperature=temperature, alpha=alpha,
        )


def hint(g):
    """FitNets: half the squared distance behind a 1 x 1 regressor, the mean over rows."""
    for n, student, teacher, side in [(1, 2, 3, 4), (3, 4, 6, 5), (2, 5, 5, 1)]:
        inputs = [g.normal(n, student, side, side), g.normal(teacher, student, 1, 1), g.normal(n, teacher, side, side)]
        g.case(inputs, lambda x, w, t: 0.5 * (F.conv2d(x, w) - t.detach()).square().sum((1, 2, 3)).mean())


def attention(g):
    """Attention transfer (activation-based, sums of squares), the squared distance of unit maps, the mean over rows."""

    def unit(x):
        return F.normalize(x.square().sum(1).flatten(1), dim=1)

    for n, student, teacher, side in [(1, 2, 3, 4), (3, 4, 6, 5), (2, 5, 5, 8)]:
        inputs = [g.normal(n, student, side, side), g.normal(n, teacher, side, side)]
        g.case(inputs, lambda x, t: (unit(x) - unit(t.detach())).square().sum(1).mean())


# The file's name and what fills it.
CASES = {
    "mse": mse,
    "huber": huber,
    "cross_entropy": cross_entropy,
    "bce_with_logits": bce_with_logits,
    "kl_div": kl_div,
    "soft_kl": soft_kl,
    "kd": kd,
    "hint": hint,
    "attention": attention,
}
