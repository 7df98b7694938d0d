"""Golden trace of a distillation: `python make_distill.py` writes it, `python make_distill.py --check` compares.

A small student takes six steps against a small teacher on one batch, with every term of the loss. See README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

STEPS, ROWS, CLASSES, TEMPERATURE = 6, 8, 4, 4.0
WEIGHTS = {"logits": 0.9, "labels": 0.1, "hint": 0.002, "attention": 0.5}


class Net(nn.Module):
    """Two convolutions with normalization, the mean over the image, a linear layer; gives logits and the outputs of bn2."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, CLASSES)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        features = self.bn2(self.conv2(h))
        return self.linear(F.relu(features).mean((2, 3))), features


def unit(x):
    return F.normalize(x.square().sum(1).flatten(1), dim=1)


def trace(nets, hint, x, labels, dtype):
    """Loss before each step, the student and the regressor after it."""
    student, teacher = Net(3).to(dtype), Net(5).to(dtype)
    for net, values in zip((student, teacher), nets):
        net.load_state_dict({name: v.to(dtype) if v.is_floating_point() else v for name, v in values.items()})
    regressor = hint.to(dtype).clone().requires_grad_()
    teacher.eval()
    student.train()
    optimizer = torch.optim.SGD([*student.parameters(), regressor], lr=0.05, momentum=0.9)
    out = {"loss": []}
    for _ in range(STEPS):
        with torch.no_grad():
            target, features_t = teacher(x.to(dtype))
        logits, features = student(x.to(dtype))
        soft = F.kl_div((logits / TEMPERATURE).log_softmax(1), (target / TEMPERATURE).softmax(1), reduction="batchmean")
        regressed = F.conv2d(features, regressor)
        terms = {
            "logits": TEMPERATURE**2 * soft,
            "labels": F.cross_entropy(logits, labels),
            "hint": 0.5 * (regressed - features_t).square().sum((1, 2, 3)).mean(),
            "attention": (unit(features) - unit(features_t)).square().sum(1).mean(),
        }
        loss = sum(WEIGHTS[name] * term for name, term in terms.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out["loss"].append(loss.detach())
        now = {name: v for name, v in student.state_dict().items() if v.is_floating_point()} | {"hint.2.weight": regressor}
        for name, v in now.items():
            out.setdefault(f"after.{name}", []).append(v.detach().clone())
    return {name: torch.stack(v) for name, v in out.items()}


def make(folder):
    torch.manual_seed(5)
    torch.set_num_threads(1)
    rng = np.random.default_rng(5)
    nets = [Net(3).state_dict(), Net(5).state_dict()]
    # A teacher whose answers differ from row to row, and statistics that are not those it begins with.
    nets[1]["linear.weight"] *= 6
    for layer in ("bn1", "bn2"):
        nets[1][f"{layer}.running_mean"] = 0.1 * torch.from_numpy(rng.standard_normal(5).astype(np.float32))
        nets[1][f"{layer}.running_var"] = torch.from_numpy(rng.uniform(0.1, 0.4, 5).astype(np.float32))
    hint = torch.from_numpy((0.3 * rng.standard_normal((5, 3, 1, 1))).astype(np.float32))
    x = torch.from_numpy(rng.uniform(0, 1, (ROWS, 1, 6, 6)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, CLASSES, ROWS))
    steps = trace(nets, hint, x, labels, torch.float64)
    single = trace(nets, hint, x, labels, torch.float32)
    off = max(float((single[n].double() - v).abs().max() / v.abs().max()) for n, v in steps.items())
    assert off < 1e-5, off
    tensors = {"x": x, "labels": labels.int(), "hint.2.weight": hint, **steps}
    for role, values in zip(("student", "teacher"), nets):
        tensors |= {f"{role}.{name}": v for name, v in values.items() if v.is_floating_point()}
    path = Path(folder) / "distill.safetensors"
    metadata = {"method": {"name": "distill", "temperature": TEMPERATURE, "weights": WEIGHTS, "rate": 0.05, "momentum": 0.9}}
    store.write(path, tensors, metadata)
    return path, off


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        path, off = make(scratch if check else HERE)
        why = store.difference(HERE / path.name, path) if check else None
        print(f"{path.name}: {path.stat().st_size} bytes, float32 within {off:.1e}" + (f": {why}" if why else ""))
        sys.exit(bool(why))


if __name__ == "__main__":
    main()
