"""Test-time training with a side head that tells quarter turns, one image at a time: see README.md."""

from pathlib import Path

import numpy as np
import store
import torch
import torch.nn.functional as F
from network import EPS, normalize, rectify, with_leaves

SHARED = ("conv1.weight", "bn1.weight", "bn1.bias", "side.weight", "side.bias")


def two_heads(net, x, side):
    h = rectify(normalize(F.conv2d(x, net["conv1.weight"], padding=1), net, "bn1", "source"))
    if side:
        return F.conv2d(h, net["side.weight"], net["side.bias"], stride=2).mean((2, 3))
    h = rectify(normalize(F.conv2d(h, net["conv2.weight"], stride=2, padding=1), net, "bn2", "source"))
    return F.linear(h.mean((2, 3)), net["linear.weight"], net["linear.bias"])


def turns(x):
    return torch.cat([x, x.transpose(2, 3).flip(2), x.flip(2).flip(3), x.transpose(2, 3).flip(3)])


def ttt(net, images, rate, n_steps, dtype):
    out = {"logits": [], "loss": [], "loss_after": []}
    for image in images.to(dtype):
        here, moving = with_leaves(net, SHARED, dtype)
        x, losses = image[None], []
        for step in range(n_steps + 1):
            losses.append(F.cross_entropy(two_heads(here, turns(x), True), torch.arange(4)))
            if step < n_steps:
                gradients = torch.autograd.grad(losses[-1], list(moving.values()))
                with torch.no_grad():
                    for p, g in zip(moving.values(), gradients):
                        p -= rate * g
        out["logits"].append(two_heads(here, x, False)[0].detach())
        out["loss"].append(losses[0].detach())
        out["loss_after"].append(losses[-1].detach())
    return {name: torch.stack(values) for name, values in out.items()}


def make(folder, net, source, images):
    rng = np.random.default_rng(7)
    side = {"side.weight": rng.standard_normal((4, 4, 3, 3)) / 6, "side.bias": 0.1 * rng.standard_normal(4)}
    side = {name: torch.from_numpy(v.astype(np.float32)).double() for name, v in side.items()}
    x = torch.from_numpy(images)
    exact, single = (ttt(net | side, x, 0.1, 10, dtype) for dtype in (torch.float64, torch.float32))
    path = Path(folder) / "adapt_ttt.safetensors"
    metadata = {"method": {"name": "ttt", "batch_norm_eps": EPS, "rate": 0.1, "n_steps": 10, "shared": SHARED}}
    store.write(path, source | {f"net.{k}": v for k, v in side.items()} | {"x": images} | exact, metadata)
    worst = max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items())
    yield path, worst, {}
