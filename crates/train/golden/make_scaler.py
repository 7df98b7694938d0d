"""Golden traces of loss scaling: `python make_scaler.py` writes them, `python make_scaler.py --check` compares.

PyTorch's GradScaler over 60 steps on a CPU. The loss of step t is the sum of w_t times theta rounded to halves, so the gradient
passes through halves and overflows wherever scale * |w_t| > 65504: the scale falls from 65536 until the gradients fit, grows
again, and falls where w_t jumps. At two steps w_t itself holds an infinity or a NaN. The layout of the files is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

N_STEPS = 60
SHAPES = {"a": (5, 7), "b": (3,)}
SCALER = {"init_scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 6}
# name: (rule, rate, hyper-parameters by PyTorch's names).
TRACES = {
    "sgd_momentum": ("SGD", 0.02, {"momentum": 0.9}),
    "adamw": ("AdamW", 0.01, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}),
}


def recorded():
    """Parameters, and the factors of each step: up to about 8, sixteen times as much from step 40 on."""
    rng = np.random.default_rng(20180213)
    theta0 = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    w = {name: (2.0 * rng.standard_normal((N_STEPS, *shape))).astype(np.float32) for name, shape in SHAPES.items()}
    for x in w.values():
        x[40:] *= 16.0
    w["b"][22, 1] = np.inf
    w["a"][31, 2, 3] = np.nan
    return theta0, w


def trace(rule, rate, hyper, theta0, w):
    """Parameters, scale and whether it was left out, after each step."""
    theta = {name: torch.tensor(x, requires_grad=True) for name, x in theta0.items()}
    optimizer = getattr(torch.optim, rule)(theta.values(), lr=rate, foreach=False, **hyper)
    scaler = torch.amp.GradScaler("cpu", **SCALER)
    out = {f"theta.{name}": [] for name in theta} | {"scale": [], "skipped": []}
    for t in range(N_STEPS):
        optimizer.zero_grad()
        loss = sum((x.half().float() * torch.tensor(w[name][t])).sum() for name, x in theta.items())
        scaler.scale(loss).backward()
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        for name, x in theta.items():
            out[f"theta.{name}"].append(x.detach().numpy().copy())
        out["scale"].append(np.float32(scaler.get_scale()))
        out["skipped"].append(np.float32(scaler.get_scale() < before))
    return {key: np.stack(steps) for key, steps in out.items()}


def make(folder):
    """Writes all traces; yields name, path and what happened."""
    theta0, w = recorded()
    for name, (rule, rate, hyper) in TRACES.items():
        found = trace(rule, rate, hyper, theta0, w)
        tensors = found | {f"theta0.{part}": x for part, x in theta0.items()} | {f"w.{part}": x for part, x in w.items()}
        tensors["rate"] = np.float32([rate])
        path = Path(folder) / f"scaler_{name}.safetensors"
        store.write(path, tensors, {"scaler": {"name": name, "rule": rule, "n_steps": N_STEPS, **SCALER, **hyper}})
        yield name, path, f"{int(found['skipped'].sum())} steps left out, scales {sorted({int(s) for s in found['scale']})}"


def main():
    check = sys.argv[1:] == ["--check"]
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, what in make(scratch if check else HERE):
            if check and (why := store.difference(HERE / path.name, path)):
                print(f"{name}: {why}")
                failed = True
            else:
                print(f"{name}: {path.stat().st_size} bytes, {what}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
