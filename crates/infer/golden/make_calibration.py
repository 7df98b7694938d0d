"""The temperature that PyTorch's L-BFGS finds: `python make_calibration.py` writes `temperature.safetensors`."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402


def ece(p, y, bins=15):
    """Expected calibration error of equally wide bins, lower < confidence <= upper."""
    confidence, guess = p.max(1)
    hit, edges, total = (guess == y).double(), torch.linspace(0, 1, bins + 1, dtype=p.dtype), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        here = (confidence > low) & (confidence <= high)
        if here.any():
            total += float(here.double().mean() * (hit[here].mean() - confidence[here].mean()).abs())
    return total


def fit(z, y):
    """Guo et al. 2017: the mean NLL of softmax(z/T) over T, from 1.5."""
    t = torch.tensor(1.5, dtype=z.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([t], lr=0.1, max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-15)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(z / t, y)
        loss.backward()
        return loss

    optimizer.step(closure)
    return t.detach()


def main():
    rng = np.random.default_rng(17)
    tensors = {}
    for name, sharpness, n, c in [("sure", 4.0, 300, 5), ("unsure", 0.4, 300, 5), ("two", 2.0, 40, 2)]:
        y = rng.integers(0, c, n)
        # The truth is softmax of `own`; the model's logits are that, sharpened, with noise.
        own = rng.standard_normal((n, c)) + 1.5 * np.eye(c)[y]
        z = (sharpness * own + 0.3 * rng.standard_normal((n, c))).astype(np.float32)
        zt, yt = torch.from_numpy(z).double(), torch.from_numpy(y)
        t = fit(zt, yt)
        scores = [[float(F.cross_entropy(zt / s, yt)), ece((zt / s).softmax(1), yt)] for s in (1.0, t)]
        print(name, float(t), scores)
        tensors |= {f"{name}.logits": z, f"{name}.labels": y.astype(np.int32), f"{name}.temperature": t.reshape(1)}
        tensors[f"{name}.scores"] = torch.tensor(scores, dtype=torch.float64)
    store.write(HERE / "temperature.safetensors", tensors, {"what": {"name": "temperature"}})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
