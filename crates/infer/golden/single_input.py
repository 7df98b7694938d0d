"""Methods that adapt to one image at a time, with more than the affine moving: see README.md."""

from pathlib import Path

import numpy as np
import philox
import store
import torch
import torch.nn.functional as F
from network import EPS, forward, marginal_entropy, normalize, rectify, with_leaves

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


def four_views(image):
    """The image, its mirror image, the image one pixel to the right, and that mirrored; zeros move in."""
    right = F.pad(image, (1, 0))[:, :, :-1]
    return torch.stack([image, image.flip(2), right, right.flip(2)])


def memo(net, images, rate, prior, dtype):
    """Zhang et al. 2022: for each image one step on all parameters against the marginal entropy of its views."""
    names = [name for name in net if "running" not in name]
    out = {"logits": [], "loss": [], "loss_after": []} | {f"grad.{name}": [] for name in names}
    for image in images.to(dtype):
        here, moving = with_leaves(net, names, dtype)
        views = four_views(image)
        loss = marginal_entropy(forward(here, views, ("prior", prior)))
        gradients = torch.autograd.grad(loss, list(moving.values()))
        adapted = here | {name: (p - rate * g).detach() for (name, p), g in zip(moving.items(), gradients)}
        after = forward(adapted, views, ("prior", prior))
        out["logits"].append(after[0])
        out["loss"].append(loss.detach())
        out["loss_after"].append(marginal_entropy(after))
        for name, g in zip(names, gradients):
            out[f"grad.{name}"].append(g)
    return {name: torch.stack(values) for name, values in out.items()}


def low_rank_start(path, shape):
    """The factor A that a session starts from: uniform within 1/sqrt(fan_in), as f32."""
    draws = philox.stream_of_name(0, "low_rank", path)
    values = np.array([next(draws) for _ in range(int(np.prod(shape)))], np.float32)
    bound = np.float32(1) / np.sqrt(np.float32(np.prod(shape[1:])))
    return torch.from_numpy((bound * (2 * values - 1)).reshape(shape)).double()


def low_rank(net, images, rank, rate, n_steps, dtype):
    """Steps of plain gradient descent on additions B·A to all weights (Hu et al. 2022), B from zeros; source statistics."""
    weights = [name for name in net if name in ("conv1.weight", "conv2.weight", "linear.weight")]
    start = {name: low_rank_start(name, (rank, *net[name].shape[1:])).to(dtype) for name in weights}
    out = {"logits": [], "loss": [], "loss_after": []} | {f"delta.{n}#{end}": [] for n in weights for end in ("down", "up")}
    here = {name: v.to(dtype) for name, v in net.items()}
    for image in images.to(dtype):
        moving = [torch.zeros_like(start[n], requires_grad=True) for n in weights]
        moving += [torch.zeros(net[n].shape[0], rank, dtype=dtype, requires_grad=True) for n in weights]
        views, losses = four_views(image), []
        for step in range(n_steps + 1):
            added = {n: here[n] + torch.tensordot(up, start[n] + down, 1) for n, down, up in zip(weights, moving[:3], moving[3:])}
            logits = forward(here | added, views, "source")
            losses.append(marginal_entropy(logits))
            if step < n_steps:
                gradients = torch.autograd.grad(losses[-1], moving)
                moving = [(p - rate * g).detach().requires_grad_() for p, g in zip(moving, gradients)]
        out["logits"].append(logits[0].detach())
        out["loss"].append(losses[0].detach())
        out["loss_after"].append(losses[-1].detach())
        for n, down, up in zip(weights, moving[:3], moving[3:]):
            out[f"delta.{n}#down"].append(down.detach())
            out[f"delta.{n}#up"].append(up.detach())
    return {name: torch.stack(values) for name, values in out.items()}


def masked(image, index, count, patch, share):
    """`count` masks of one image: rows, and where they hide."""
    c, h, w = image.shape
    down, across = h // patch, w // patch
    draws = philox.uniform(philox.fold(philox.of_input(0, index), 7), count * down * across).reshape(count, down * across)
    hidden = torch.zeros(count, down * across, dtype=torch.bool)
    for row, order in enumerate(np.argsort(draws, axis=1, kind="stable")):
        hidden[row, order[: round(share * down * across)]] = True
    hidden = hidden.view(count, 1, down, 1, across, 1).expand(-1, -1, -1, patch, -1, patch).reshape(count, 1, h, w)
    rows = image[None].repeat(count, 1, 1, 1)
    fill = torch.stack([row[:, ~where[0]].mean(1) for row, where in zip(rows, hidden)])[:, :, None, None]
    return torch.where(hidden, fill, rows), rows, hidden


def paint(net, x):
    h = rectify(normalize(F.conv2d(x, net["conv1.weight"], padding=1), net, "bn1", "source"))
    return F.conv2d(h, net["side.weight"], net["side.bias"], padding=1)


def mae(net, images, rate, n_steps, dtype):
    """Gandelsman et al. 2022 on a network of convolutions: see README.md."""
    out = {"logits": [], "loss": [], "loss_after": []}
    for index, image in enumerate(images.to(dtype)):
        here, moving = with_leaves(net, SHARED, dtype)
        optimizer, losses = torch.optim.SGD(moving.values(), lr=rate, momentum=0.9), []
        rows, targets, hidden = masked(image, index, 4, 2, 0.75)
        for step in range(n_steps + 1):
            losses.append((paint(here, rows) - targets).square()[hidden.expand(rows.shape)].mean())
            if step < n_steps:
                optimizer.zero_grad()
                losses[-1].backward()
                optimizer.step()
        out["logits"].append(two_heads(here, image[None], False)[0].detach())
        out["loss"].append(losses[0].detach())
        out["loss_after"].append(losses[-1].detach())
    return {name: torch.stack(values) for name, values in out.items()}


def make_mae(folder, net, source, images):
    rng = np.random.default_rng(11)
    side = {"side.weight": rng.standard_normal((1, 4, 3, 3)) / 6, "side.bias": 0.1 * rng.standard_normal(1)}
    side = {name: torch.from_numpy(v.astype(np.float32)).double() for name, v in side.items()}
    exact, single = (mae(net | side, torch.from_numpy(images), 0.05, 5, dtype) for dtype in (torch.float64, torch.float32))
    path = Path(folder) / "adapt_ttt_mae.safetensors"
    method = {"name": "ttt-mae", "batch_norm_eps": EPS, "rate": 0.05, "momentum": 0.9, "n_steps": 5, "shared": SHARED}
    store.write(path, source | {f"net.{k}": v for k, v in side.items()} | {"x": images} | exact, {"method": method})
    yield path, max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items()), {}


def make(folder, net, source, images):
    path = Path(folder) / "adapt_memo.safetensors"
    exact, single = (memo(net, torch.from_numpy(images), 5e-3, 64, dtype) for dtype in (torch.float64, torch.float32))
    configuration = {"name": "memo", "batch_norm_eps": EPS, "rate": 5e-3, "n_steps": 1, "prior": 64}
    store.write(path, source | {"x": images} | exact, {"method": configuration})
    yield path, max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items()), {}
    path = Path(folder) / "adapt_memo_low_rank.safetensors"
    exact, single = (low_rank(net, torch.from_numpy(images), 2, 0.01, 3, dtype) for dtype in (torch.float64, torch.float32))
    configuration = {"name": "memo-low-rank", "batch_norm_eps": EPS, "rank": 2, "rate": 0.01, "n_steps": 3}
    store.write(path, source | {"x": images} | exact, {"method": configuration})
    yield path, max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items()), {}
    yield from make_ttt(folder, net, source, images)
    yield from make_mae(folder, net, source, images)


def make_ttt(folder, net, source, images):
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
