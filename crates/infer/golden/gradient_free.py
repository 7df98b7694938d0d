"""Methods without a gradient, batch by batch: statistics, T3A, LAME, prior correction, forward-only search."""

import numpy as np
import philox
import torch
import torch.nn.functional as F
from network import AFFINE, EPS, entropy, forward, normalize, rectify


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


class Evolution:
    """CMA-ES with a diagonal covariance over the normalization affine, against the mean entropy of the batch."""

    def __init__(self, net, dtype, width=0.05, k=9):
        self.start, self.dtype, self.k = {n: v.to(dtype) for n, v in net.items()}, dtype, k
        self.n = sum(net[name].numel() for name in AFFINE)
        self.mean, self.var, self.ps, self.pc = (torch.full((self.n,), v, dtype=dtype) for v in (0.0, 1.0, 0.0, 0.0))
        self.sigma, self.g, self.delta = width, 0, torch.zeros(self.n, dtype=dtype)

    def logits(self, delta, x):
        parts = torch.split(delta, [self.start[name].numel() for name in AFFINE])
        return forward(self.start | {n: self.start[n] + d for n, d in zip(AFFINE, parts)}, x, "batch")

    def __call__(self, step, x):
        n, k, mu = self.n, self.k, self.k // 2
        key = philox.fold(philox.fold(philox.of_input(0, step * len(x)), 6), 0)
        y = torch.from_numpy(philox.normal(key, k * n).reshape(k, n)).to(self.dtype) * self.var.sqrt()
        fitness = lambda d: float(entropy(self.logits(d, x)).mean())
        values = [fitness(self.mean + self.sigma * s) for s in y]
        order = sorted(range(k), key=lambda i: values[i])
        now = fitness(self.delta)
        ranked = sorted(values + [now])
        assert min(b - a for a, b in zip(ranked, ranked[1:])) > 1e-5
        if values[order[0]] < now:
            self.delta = self.mean + self.sigma * y[order[0]]
        w = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
        w /= w.sum()
        eff = 1 / (w**2).sum()
        cs = (eff + 2) / (n + eff + 5)
        damp = 1 + 2 * max(0, np.sqrt((eff - 1) / (n + 1)) - 1) + cs
        cc = (4 + eff / n) / (n + 4 + 2 * eff / n)
        c1 = min(1, (n + 2) / 3 * 2 / ((n + 1.3) ** 2 + eff))
        cmu = min(1 - c1, (n + 2) / 3 * 2 * (eff - 2 + 1 / eff) / ((n + 2) ** 2 + eff))
        chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
        w = torch.from_numpy(w).to(self.dtype)[:, None]
        best = y[order[:mu]]
        yw = (w * best).sum(0)
        self.g += 1
        self.mean = self.mean + self.sigma * yw
        self.ps = (1 - cs) * self.ps + np.sqrt(cs * (2 - cs) * eff) * yw / self.var.sqrt()
        length = float(self.ps.norm())
        h = float(length < (1.4 + 2 / (n + 1)) * chi * np.sqrt(1 - (1 - cs) ** (2 * self.g)))
        self.pc = (1 - cc) * self.pc + h * np.sqrt(cc * (2 - cc) * eff) * yw
        self.var = (1 - c1 - cmu) * self.var + c1 * (self.pc**2 + (1 - h) * cc * (2 - cc) * self.var) + cmu * (w * best**2).sum(0)
        self.sigma = self.sigma * np.exp((length / chi - 1) * cs / damp)
        return {
            "logits": self.logits(self.delta, x), "loss": torch.tensor([now]), "delta": self.delta,
            "memory/search": torch.stack([self.mean, self.var, self.ps, self.pc]),
            "memory/search_width": torch.tensor([self.sigma, self.g], dtype=self.dtype),
        }  # fmt: skip


FREE = {
    "alpha_bn": ({"alpha": 0.1}, Blend),
    "ema_bn": ({"momentum": 0.1}, Running),
    "t3a": ({"keep": 4}, Prototypes),
    "lame_nearest": ({"affinity": "nearest 5"}, lambda net, d: Laplacian(net, d, "nearest")),
    "lame_gaussian": ({"affinity": "gaussian 5"}, lambda net, d: Laplacian(net, d, "gaussian", 0.2)),
    "lame_linear": ({"affinity": "linear"}, lambda net, d: Laplacian(net, d, "linear", 0.2)),
    "prior_corrected": ({}, corrected),
    "forward_only": ({"candidates": 9, "width": 0.05}, Evolution),
}
