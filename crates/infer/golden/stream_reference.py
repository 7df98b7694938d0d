"""What PyTorch gets on the images that `stream_benchmark --export` wrote, beside what that run got.

`python stream_reference.py WEIGHTS.safetensors EXPORT ROWS.json [--batch 200]`: parameters of a CIFAR-10 ResNet under
PyTorch's names, the folder of images, and the run's rows. The stream is `iid`: each shift alone, batches in the stored
order, a reset before each shift. Methods: frozen, batch statistics, TENT (Wang et al. 2021: Adam 1e-3 on the normalization
affine, one step a batch, the answer before the step).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from resnet20_reference import MEAN, STD, forward

METHODS = ("frozen", "statistics", "tent")


def errors(weights, x, labels, method, batch):
    """Percent answered wrong."""
    net = {name: v.clone() for name, v in weights.items()}
    moving = [net[n].requires_grad_() for n in net if "bn" in n and n.endswith((".weight", ".bias"))]
    adam = torch.optim.Adam(moving, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    wrong = 0
    for start in range(0, len(x), batch):
        rows = slice(start, start + batch)
        with torch.set_grad_enabled(method == "tent"):
            logits = forward(net, x[rows], method != "frozen")
        wrong += int((logits.argmax(1) != labels[rows]).sum())
        if method == "tent":
            adam.zero_grad()
            (-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()).backward()
            adam.step()
    return 100 * wrong / len(x)


def main():
    parser = argparse.ArgumentParser()
    for name in ("weights", "export", "rows"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--batch", type=int, default=200)
    o = parser.parse_args()
    weights = load_file(o.weights)
    ours = {(r["shift"], r["method"]): r["error"] for r in json.loads(o.rows.read_text()) if r["stream"] == "iid"}
    shifts = [shift for shift, method in ours if method == "frozen" and shift != "all"]
    print("| error % | " + " | ".join(f"{m}, here | PyTorch" for m in METHODS) + " |")
    print("|---" * (1 + 2 * len(METHODS)) + "|")
    worst, totals = 0.0, np.zeros(2 * len(METHODS))
    for shift in shifts:
        read = lambda what: np.load(o.export / f"{shift}.{what}.npy")
        order = read("order").astype(np.int64)
        pixels = read("images")[order].transpose(0, 2, 3, 1)
        x = torch.from_numpy(((pixels / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))
        labels = torch.from_numpy(read("labels")[order].astype(np.int64))
        line = []
        for method in METHODS:
            line += [ours[shift, method], errors(weights, x, labels, method, o.batch)]
            worst = max(worst, abs(line[-1] - line[-2]))
        totals += np.array(line) * (shift != "clean")
        print(f"| {shift} | " + " | ".join(f"{v:.2f}" for v in line) + " |", flush=True)
    means = totals / sum(shift != "clean" for shift in shifts)
    print("| mean of the shifts | " + " | ".join(f"{v:.2f}" for v in means) + " |")
    print(f"\nlargest difference: {worst:.2f} points (torch {torch.__version__.split('+')[0]})")


if __name__ == "__main__":
    main()
