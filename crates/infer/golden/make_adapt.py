"""Golden traces of adaptation: `python make_adapt.py` writes them, `python make_adapt.py --check` compares.

A small convolution and batch-norm network answers shifted images under each kind of normalization statistics, is adapted by
TENT for five steps, and by one step of marginal entropy over four views of one image; the other methods step along a stream.
The layout of the files is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402
import sensor  # noqa: E402
import single_input  # noqa: E402
import streams  # noqa: E402
from network import AFFINE, EPS, clear_of_noise, entropy, forward, images, marginal_entropy, network, with_leaves  # noqa: E402


def tent(net, x, rate, n_steps, dtype):
    """Wang et al. 2021: batch statistics; each step answers, then lowers the mean entropy of the same rows."""
    net, moving = with_leaves(net, AFFINE, dtype)
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
    net, moving = with_leaves(net, AFFINE, dtype)
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
    yield from single_input.make(folder, net, source, shifted)
    yield from sensor.make(folder, net, source)
    yield from streams.make(folder, net, source)


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
