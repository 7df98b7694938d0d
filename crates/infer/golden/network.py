"""The small network that every trace is of, its inputs, and the losses: see README.md."""

import numpy as np
import torch
import torch.nn.functional as F

EPS = 1e-5
AFFINE = ("bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias")


def normalize(h, net, layer, statistics):
    """Batch normalization whose statistics are `source`, `batch`, or (`prior`, N): see README.md."""
    mean_s, var_s = net[f"{layer}.running_mean"], net[f"{layer}.running_var"]
    mean_t, var_t = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
    if statistics == "source":
        keep = 1.0
    elif statistics == "batch":
        keep = 0.0
    else:
        keep = statistics[1] / (statistics[1] + h.shape[0])
    mean, var = keep * mean_s + (1 - keep) * mean_t, keep * var_s + (1 - keep) * var_t
    column = lambda v: v.view(1, -1, 1, 1)
    return (h - column(mean)) / column(var + EPS).sqrt() * column(net[f"{layer}.weight"]) + column(net[f"{layer}.bias"])


def rectify(h):
    """ReLU of values of which none is so near zero that rounding could put it on the other side, and its gradient with it."""
    assert float(h.detach().abs().min()) > 3e-6
    return F.relu(h)


def forward(net, x, statistics):
    """[n, 1, 8, 8] images in 0..1 to [n, 3] logits."""
    h = rectify(normalize(F.conv2d(x, net["conv1.weight"], padding=1), net, "bn1", statistics))
    h = rectify(normalize(F.conv2d(h, net["conv2.weight"], stride=2, padding=1), net, "bn2", statistics))
    return F.linear(h.mean((2, 3)), net["linear.weight"], net["linear.bias"])


def entropy(logits):
    """H(p) of each row, in nats."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def marginal_entropy(logits):
    """H of the mean of the rows' probabilities, in nats."""
    log_p = logits.log_softmax(-1).logsumexp(0) - np.log(len(logits))
    return -(log_p.exp() * log_p).sum()


def images(rng, n):
    """Three classes: a blob, a horizontal bar, a vertical bar, somewhere and with noise."""
    y, x = np.mgrid[0:8, 0:8].astype(float)
    out = []
    for i in range(n):
        cy, cx = rng.uniform(2, 5, 2)
        wide, high = [(1.5, 1.5), (4.0, 0.8), (0.8, 4.0)][i % 3]
        out.append(np.exp(-(((x - cx) / wide) ** 2 + ((y - cy) / high) ** 2)) + 0.05 * rng.standard_normal((8, 8)))
    return np.clip(np.stack(out)[:, None], 0, 1).astype(np.float32)


def network(rng):
    """Random convolutions, source statistics from 300 images, and a linear layer fitted to their classes by least squares."""
    f32 = lambda a: torch.from_numpy(np.asarray(a, np.float32)).double()
    net = {
        "conv1.weight": f32(rng.standard_normal((4, 1, 3, 3)) / 3),
        "bn1.weight": f32(rng.uniform(0.8, 1.2, 4)),
        "bn1.bias": f32(rng.uniform(0.1, 0.5, 4)),
        "conv2.weight": f32(rng.standard_normal((8, 4, 3, 3)) / 6),
        "bn2.weight": f32(rng.uniform(0.8, 1.2, 8)),
        "bn2.bias": f32(rng.uniform(0.1, 0.5, 8)),
    }
    x = torch.from_numpy(images(rng, 300)).double()
    h = F.conv2d(x, net["conv1.weight"], padding=1)
    net["bn1.running_mean"], net["bn1.running_var"] = f32(h.mean((0, 2, 3))), f32(h.var((0, 2, 3)))
    h = F.conv2d(F.relu(normalize(h, net, "bn1", "source")), net["conv2.weight"], stride=2, padding=1)
    net["bn2.running_mean"], net["bn2.running_var"] = f32(h.mean((0, 2, 3))), f32(h.var((0, 2, 3)))
    features = F.relu(normalize(h, net, "bn2", "source")).mean((2, 3))
    features = torch.cat([features, torch.ones(300, 1).double()], 1)
    targets = 4.0 * F.one_hot(torch.arange(300) % 3, 3).double()
    solution = torch.linalg.lstsq(features, targets).solution.numpy()
    net["linear.weight"], net["linear.bias"] = f32(solution[:8].T), f32(solution[8])
    return net


def with_leaves(net, names, dtype):
    """The network in `dtype`, with leaves of its own for what moves; and these leaves."""
    net = {name: x.to(dtype) for name, x in net.items()}
    moving = {name: net[name].clone().requires_grad_() for name in names}
    return net | moving, moving


def clear_of_noise(gradients):
    """Adam divides by a gradient's size: one that is rounding noise would turn the trace into luck."""
    scale = max(float(g.abs().max()) for g in gradients)
    assert min(float(g.abs().min()) for g in gradients) > 1e-4 * scale
