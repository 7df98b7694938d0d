"""Golden traces of the step rules: `python make_optim.py` writes them, `python make_optim.py --check` compares.

Every rule takes 50 steps from the same parameters along the same recorded gradients, in float64, by PyTorch.
Lion is not part of PyTorch: its trace follows the paper's formula in NumPy. The layout of the files is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

N_STEPS = 50
SHAPES = {"a": (5, 7), "b": (3,)}

# name: (rule, rate, hyper-parameters by PyTorch's names). No value is left to a default.
SGD = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
ADAM = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
RMSPROP = {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False}
ADAGRAD = {"lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10}
TRACES = {
    "sgd": ("SGD", 0.05, SGD),
    "sgd_momentum": ("SGD", 0.02, SGD | {"momentum": 0.9}),
    "sgd_nesterov": ("SGD", 0.02, SGD | {"momentum": 0.9, "nesterov": True}),
    "sgd_decay": ("SGD", 0.02, SGD | {"momentum": 0.9, "weight_decay": 1e-2}),
    "adam": ("Adam", 0.01, ADAM),
    "adam_decay": ("Adam", 0.01, ADAM | {"weight_decay": 1e-2}),
    "adamw": ("AdamW", 0.01, ADAM | {"weight_decay": 1e-2}),
    "adamw_schedule": ("AdamW", 0.02, ADAM | {"weight_decay": 5e-2}),
    "amsgrad": ("Adam", 0.01, ADAM | {"amsgrad": True}),
    "rmsprop": ("RMSprop", 0.01, RMSPROP),
    "rmsprop_momentum": ("RMSprop", 0.003, RMSPROP | {"momentum": 0.9}),
    "rmsprop_centered": ("RMSprop", 0.01, RMSPROP | {"centered": True}),
    "adagrad": ("Adagrad", 0.1, ADAGRAD),
    "lion": ("Lion", 0.003, {"betas": [0.9, 0.99], "weight_decay": 1e-2}),
}


def recorded():
    """Parameters and gradients: scales over six decades (small ones show a wrong eps), a drift and noise, some that stay or become zero."""
    rng = np.random.default_rng(20230213)
    theta0, grads = {}, {}
    for name, shape in SHAPES.items():
        theta0[name] = rng.standard_normal(shape).astype(np.float32)
        scale = 10.0 ** rng.uniform(-5, 1, shape)
        drift = rng.standard_normal(shape)
        # The drift turns around half way, so that moments have to forget.
        turn = np.cos(np.linspace(0, np.pi, N_STEPS)).reshape(-1, *[1] * len(shape))
        g = scale * (0.7 * drift * turn + rng.standard_normal((N_STEPS, *shape)))
        # Amsgrad remembers this step, and the others forget it.
        g[7] *= 6.0
        g[:, ..., 0] = 0.0 if name == "b" else g[:, ..., 0]
        g[20:30, ..., 1] = 0.0
        grads[name] = g.astype(np.float32)
    return theta0, grads


def rates(name, peak):
    """The rate of every step, as f32: constant, or a linear warm-up of ten steps and a cosine down to a tenth."""
    step = np.arange(N_STEPS)
    if name != "adamw_schedule":
        return np.full(N_STEPS, peak, np.float32)
    cosine = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (step - 9) / (N_STEPS - 10)))
    return (peak * np.where(step < 10, (step + 1) / 10, cosine)).astype(np.float32)


def by_torch(rule, hyper, rate, theta0, grads, dtype):
    """The parameters after each step."""
    parameters = {name: torch.tensor(x, dtype=dtype, requires_grad=True) for name, x in theta0.items()}
    optimizer = getattr(torch.optim, rule)(parameters.values(), lr=float(rate[0]), foreach=False, **hyper)
    trace = {name: [] for name in theta0}
    for t in range(N_STEPS):
        optimizer.param_groups[0]["lr"] = float(rate[t])
        for name, x in parameters.items():
            x.grad = torch.tensor(grads[name][t], dtype=dtype)
        optimizer.step()
        for name, x in parameters.items():
            trace[name].append(x.detach().numpy().copy())
    return {name: np.stack(steps) for name, steps in trace.items()}


def lion(hyper, rate, theta0, grads, dtype):
    """Chen et al. 2023, algorithm 2: c = β1 m + (1 − β1) g, θ ← θ − rate (sign c + λ θ), m ← β2 m + (1 − β2) g."""
    beta1, beta2 = (dtype(b) for b in hyper["betas"])
    trace = {}
    for name in theta0:
        theta, m, steps = theta0[name].astype(dtype), np.zeros(SHAPES[name], dtype), []
        for t in range(N_STEPS):
            g = grads[name][t].astype(dtype)
            c = beta1 * m + (1 - beta1) * g
            # A sign that f32 could get wrong would make the trace a matter of luck.
            assert np.all((c == 0) | (np.abs(c) > 1e-5 * (np.abs(m) + np.abs(g))))
            theta = theta - dtype(rate[t]) * (np.sign(c) + dtype(hyper["weight_decay"]) * theta)
            m = beta2 * m + (1 - beta2) * g
            steps.append(theta)
        trace[name] = np.stack(steps)
    return trace


def deviation(trace, other):
    """The largest |difference| over the steps, relative to max(|θ|, root mean square of the tensor at that step)."""
    worst = 0.0
    for name, exact in trace.items():
        exact = exact.reshape(N_STEPS, -1)
        scale = np.maximum(np.abs(exact), np.sqrt(np.mean(exact**2, axis=1, keepdims=True)))
        worst = max(worst, float(np.max(np.abs(other[name].reshape(N_STEPS, -1) - exact) / scale)))
    return worst


def make(folder):
    """Writes all traces; yields name, path, and how far float32 in the same library is from the stored trace."""
    theta0, grads = recorded()
    for name, (rule, peak, hyper) in TRACES.items():
        rate = rates(name, peak)
        if rule == "Lion":
            exact, single = (lion(hyper, rate, theta0, grads, dtype) for dtype in (np.float64, np.float32))
        else:
            exact, single = (by_torch(rule, hyper, rate, theta0, grads, dtype) for dtype in (torch.float64, torch.float32))
        tensors = {"rate": rate}
        for part in SHAPES:
            tensors |= {f"theta0.{part}": theta0[part], f"grads.{part}": grads[part], f"theta.{part}": exact[part]}
        path = Path(folder) / f"optim_{name}.safetensors"
        store.write(path, tensors, {"optimizer": {"name": name, "rule": rule, "n_steps": N_STEPS, **hyper}})
        yield name, path, deviation(exact, single)


def main():
    check = sys.argv[1:] == ["--check"]
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, path, single in make(scratch if check else HERE):
            if check and (why := store.difference(HERE / path.name, path)):
                print(f"{name}: {why}")
                failed = True
            else:
                print(f"{name}: {path.stat().st_size} bytes, float32 deviates by {single:.1e}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
