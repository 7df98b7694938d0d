"""Golden traces of adaptation: `python make_adapt.py` writes them, `python make_adapt.py --check` compares.

A small convolution and batch-norm network answers shifted images under each kind of normalization statistics, is adapted by
TENT for five steps, and by one step of marginal entropy over four views of one image. The layout of the files is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

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


def with_affine(net, dtype):
    """The network in `dtype`, with leaves of its own for what moves; and these leaves."""
    net = {name: x.to(dtype) for name, x in net.items()}
    moving = {name: net[name].clone().requires_grad_() for name in AFFINE}
    return net | moving, moving


def clear_of_noise(gradients):
    """Adam divides by a gradient's size: one that is rounding noise would turn the trace into luck."""
    scale = max(float(g.abs().max()) for g in gradients)
    assert min(float(g.abs().min()) for g in gradients) > 1e-4 * scale


def tent(net, x, rate, n_steps, dtype):
    """Wang et al. 2021: batch statistics; each step answers, then lowers the mean entropy of the same rows."""
    net, moving = with_affine(net, dtype)
    optimizer = torch.optim.Adam(moving.values(), lr=rate, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    trace = {"loss": [], "logits": []} | {f"{what}.{name}": [] for what in ("affine", "grad") for name in AFFINE}
    for _ in range(n_steps):
        logits = forward(net, x.to(dtype), "batch")
        loss = entropy(logits).mean()
        optimizer.zero_grad()
        loss.backward()
        clear_of_noise([p.grad for p in moving.values()])
        optimizer.step()
        trace["loss"].append(loss.detach())
        trace["logits"].append(logits.detach())
        for name, p in moving.items():
            trace[f"grad.{name}"].append(p.grad.clone())
            trace[f"affine.{name}"].append(p.detach().clone())
    return {name: torch.stack(steps) for name, steps in trace.items()}


def memo_affine(net, views, rate, prior, dtype):
    """Zhang et al. 2022, with the affine alone moving: one step of plain gradient descent on the marginal entropy."""
    net, moving = with_affine(net, dtype)
    views, statistics = views.to(dtype), ("prior", prior)
    before = forward(net, views, statistics)
    loss = marginal_entropy(before)
    gradients = dict(zip(AFFINE, torch.autograd.grad(loss, list(moving.values()))))
    adapted = net | {name: (p - rate * gradients[name]).detach() for name, p in moving.items()}
    after = forward(adapted, views, statistics)
    out = {"loss": loss.detach(), "logits_before": before.detach(), "logits_after": after.detach(), "loss_after": marginal_entropy(after).detach()}
    out["logits_alone_after"] = forward(adapted, views[:1], statistics).detach()
    for name in AFFINE:
        out |= {f"grad.{name}": gradients[name], f"affine.{name}": adapted[name].detach()}
    return out


def make(folder):
    """Writes the files; yields path and how far float32 is from what was stored."""
    rng = np.random.default_rng(20210318)
    net = network(rng)
    source = {f"net.{name}": x for name, x in net.items()}
    clean = images(rng, 8)
    # Less contrast and a veil: far from the source statistics.
    shifted = (0.4 * clean + 0.3 + 0.03 * rng.standard_normal(clean.shape)).astype(np.float32)
    image = shifted[1]
    # The original, its mirror image, one pixel to the right, and brighter.
    views = np.stack([image, image[:, :, ::-1], np.roll(image, 1, 2), 1.1 * image]).astype(np.float32)
    x, views_t = torch.from_numpy(shifted), torch.from_numpy(views)

    def statistics(dtype):
        typed = {name: v.to(dtype) for name, v in net.items()}
        return {
            f"logits.{name}": forward(typed, torch.from_numpy(batch).to(dtype), mode)
            for name, batch, mode in [("clean", clean, "source"), ("source", shifted, "source"), ("batch", shifted, "batch"),
                                      ("prior", shifted, ("prior", 16)), ("prior_alone", shifted[:1], ("prior", 16))]
        }  # fmt: skip

    methods = {
        "statistics": ({"prior": 16}, {"x_clean": clean, "x": shifted}, statistics),
        "tent": (
            {"statistics": "batch", "objective": "mean entropy", "rule": "Adam", "rate": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "n_steps": 5},
            {"x": shifted},
            lambda dtype: tent(net, x, 1e-3, 5, dtype),
        ),
        "memo_affine": (
            {"statistics": "prior", "prior": 16, "n_views": 4, "objective": "marginal entropy", "rule": "SGD", "rate": 5e-3, "n_steps": 1},
            {"views": views},
            lambda dtype: memo_affine(net, views_t, 5e-3, 16, dtype),
        ),
    }
    for name, (configuration, inputs, run) in methods.items():
        exact, single = run(torch.float64), run(torch.float32)
        path = Path(folder) / f"adapt_{name}.safetensors"
        store.write(path, source | inputs | exact, {"method": {"name": name, "batch_norm_eps": EPS, **configuration}})
        worst = max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items())
        yield path, worst, exact


def main():
    check = sys.argv[1:] == ["--check"]
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for path, single, exact in make(scratch if check else HERE):
            if check and (why := store.difference(HERE / path.name, path)):
                print(f"{path.name}: {why}")
                failed = True
            else:
                losses = [f"{v:.6f}" for k in ("loss", "loss_after") if k in exact for v in exact[k].flatten()]
                print(f"{path.name}: {path.stat().st_size} bytes, float32 deviates by {single:.1e}", *losses)
    sys.exit(failed)


if __name__ == "__main__":
    main()
