"""Methods without a gradient, batch by batch: statistics, T3A, LAME, prior correction."""

import torch
import torch.nn.functional as F
from network import EPS, entropy, forward, normalize, rectify


def features(net, x, statistics="source"):
    """What the last linear layer sees, and its logits."""
    h = rectify(normalize(F.conv2d(x, net["conv1.weight"], padding=1), net, "bn1", statistics))
    h = rectify(normalize(F.conv2d(h, net["conv2.weight"], stride=2, padding=1), net, "bn2", statistics))
    f = h.mean((2, 3))
    return f, F.linear(f, net["linear.weight"], net["linear.bias"])


class Blend:
    """(1 − α)·source + α·batch statistics with the unbiased variance."""

    def __init__(self, net, dtype, alpha=0.1):
        self.net, self.alpha = {k: v.to(dtype) for k, v in net.items()}, alpha

    def mean_and_variance(self, layer, h):
        mean, var = self.net[f"{layer}.running_mean"], self.net[f"{layer}.running_var"]
        return torch.lerp(mean, h.mean((0, 2, 3)), self.alpha), torch.lerp(var, h.var((0, 2, 3)), self.alpha)

    def normalized(self, h, layer):
        mean, var = self.mean_and_variance(layer, h)
        column = lambda v: v.view(1, -1, 1, 1)
        scale = self.net[f"{layer}.weight"] / (var + EPS).sqrt()
        return (h - column(mean)) * column(scale) + column(self.net[f"{layer}.bias"])

    def __call__(self, step, x):
        h = rectify(self.normalized(F.conv2d(x, self.net["conv1.weight"], padding=1), "bn1"))
        h = rectify(self.normalized(F.conv2d(h, self.net["conv2.weight"], stride=2, padding=1), "bn2"))
        return {"logits": F.linear(h.mean((2, 3)), self.net["linear.weight"], self.net["linear.bias"])}


class Running(Blend):
    """Running statistics move to each batch and are used."""

    def mean_and_variance(self, layer, h):
        mean, var = super().mean_and_variance(layer, h)
        self.net[f"{layer}.running_mean"], self.net[f"{layer}.running_var"] = mean, var
        return mean, var

    def __call__(self, step, x):
        out = super().__call__(step, x)
        buffers = [f"{layer}.running_{what}" for layer in ("bn1", "bn2") for what in ("mean", "var")]
        return out | {f"memory/buffer/{name}": self.net[name] for name in buffers}


class Prototypes:
    """T3A with the `keep` surest supports of each class."""

    def __init__(self, net, dtype, keep=4):
        self.net, self.keep, self.supports = {k: v.to(dtype) for k, v in net.items()}, keep, []
        w = self.net["linear.weight"]
        self.add(w, F.linear(w, w, self.net["linear.bias"]))

    def add(self, f, z):
        new = zip(entropy(z).tolist(), z.argmax(1).tolist(), f)
        self.supports = sorted(self.supports + list(new), key=lambda s: s[0])
        self.supports = [s for c in range(3) for s in [s for s in self.supports if s[1] == c][: self.keep]]

    def __call__(self, step, x):
        f, z = features(self.net, x)
        self.add(f, z)
        sums = [sum((F.normalize(v, dim=0) for _, k, v in self.supports if k == c), torch.zeros_like(f[0])) for c in range(3)]
        return {"logits": f @ F.normalize(torch.stack(sums), dim=1).T}


class Laplacian:
    """LAME."""

    def __init__(self, net, dtype, kind, weight=1.0):
        self.net, self.kind, self.weight = {k: v.to(dtype) for k, v in net.items()}, kind, weight

    def affinity(self, f):
        u = F.normalize(f, dim=1)
        product = u @ u.T
        if self.kind == "linear":
            return product
        distance = ((u[:, None] - u[None]) ** 2).sum(2).sqrt()
        if self.kind == "gaussian":
            width = distance.sort(dim=1).values[:, 4].mean()
            return (-(distance**2) / (2 * width**2)).exp()
        far = distance + torch.diag(torch.full((len(f),), torch.inf, dtype=f.dtype))
        order = far.sort(dim=1).values
        assert float((order[:, 5] - order[:, 4]).min()) > 1e-4  # which five is no matter of rounding
        return (far <= order[:, 4:5]).to(f.dtype)

    def __call__(self, step, x):
        f, z = features(self.net, x)
        p = z.softmax(1)
        unary, near = (p + 1e-10).log(), self.weight * self.affinity(f)
        y = p
        for _ in range(100):
            y = (unary + near @ y).softmax(1)
        return {"logits": (unary + near @ y).log_softmax(1)}


def corrected(net, dtype):
    net = {k: v.to(dtype) for k, v in net.items()}

    def walk(step, x):
        p = forward(net, x, "batch").softmax(1)
        prior = p.mean(0)
        smooth = max(1 / len(x), 1 / 3) / prior.max()
        y = p * (prior + smooth) / (1 + 3 * smooth)
        return {"logits": (y / y.sum(1, keepdim=True)).log()}

    return walk


FREE = {
    "alpha_bn": ({"alpha": 0.1}, Blend),
    "ema_bn": ({"momentum": 0.1}, Running),
    "t3a": ({"keep": 4}, Prototypes),
    "lame_nearest": ({"affinity": "nearest 5"}, lambda net, d: Laplacian(net, d, "nearest")),
    "lame_gaussian": ({"affinity": "gaussian 5"}, lambda net, d: Laplacian(net, d, "gaussian", 0.2)),
    "lame_linear": ({"affinity": "linear"}, lambda net, d: Laplacian(net, d, "linear", 0.2)),
    "prior_corrected": ({}, corrected),
}
