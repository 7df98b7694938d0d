"""Accuracies of a CIFAR-10 ResNet frozen, on batch statistics, and under TENT, for comparison with `adapt_pretrained`.

`python resnet20_reference.py WEIGHTS.safetensors IMAGES.bin`: parameters under PyTorch's names, images in CIFAR-10's binary layout.
TENT (Wang et al. 2021): batches of 200 in file order, Adam 1e-3, one step a batch, never reset, the answer before the step.
Shifts at severity 5 of CIFAR-10-C (Hendrycks & Dietterich 2019), stored as 8 bit.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def forward(net, x, batch_statistics):
    def bn(h, name):
        running = (None, None) if batch_statistics else (net[f"{name}.running_mean"], net[f"{name}.running_var"])
        return F.batch_norm(h, *running, net[f"{name}.weight"], net[f"{name}.bias"], batch_statistics, 0.0, 1e-5)

    h = F.relu(bn(F.conv2d(x, net["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        i = 0
        while f"layer{stage}.{i}.conv1.weight" in net:
            block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            # Option A of He et al. 2016: every second pixel, and zeros for the new channels, half on either side.
            new = (net[f"{block}.conv1.weight"].shape[0] - h.shape[1]) // 2
            shortcut = F.pad(h[:, :, ::stride, ::stride], (0, 0, 0, 0, new, new))
            y = F.relu(bn(F.conv2d(h, net[f"{block}.conv1.weight"], stride=stride, padding=1), f"{block}.bn1"))
            h = F.relu(bn(F.conv2d(y, net[f"{block}.conv2.weight"], padding=1), f"{block}.bn2") + shortcut)
            i += 1
    return F.linear(h.mean((2, 3)), net["linear.weight"], net["linear.bias"])


def accuracy(weights, pixels, labels, method):
    net = {name: v.clone() for name, v in weights.items()}
    moving = [net[n].requires_grad_() for n in net if "bn" in n and n.endswith((".weight", ".bias"))]
    adam = torch.optim.Adam(moving, lr=1e-3)
    x = torch.from_numpy(((pixels / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))
    right = 0
    for start in range(0, len(x), 200):
        rows = slice(start, start + 200)
        logits = forward(net, x[rows], method != "frozen")
        right += int((logits.argmax(1) == labels[rows]).sum())
        if method == "tent":
            adam.zero_grad()
            (-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()).backward()
            adam.step()
    return right, right / len(x)


def main():
    weights, records = load_file(sys.argv[1]), np.fromfile(sys.argv[2], np.uint8).reshape(-1, 3073)
    labels, clean = torch.from_numpy(records[:, 0].astype(np.int64)), records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    x = clean / 255.0
    mean = x.mean((1, 2), keepdims=True)
    noise = np.random.RandomState(0).normal(size=x.shape, scale=0.10)
    store = lambda v: (255 * np.clip(v, 0, 1)).astype(np.uint8)
    for shift, pixels in {"clean": clean, "gaussian": store(x + noise), "contrast": store((x - mean) * 0.15 + mean)}.items():
        for method in ("frozen", "statistics", "tent"):
            right, share = accuracy(weights, pixels, labels, method)
            print(f"{shift:9} {method:11} {right:4} of {len(pixels)}  {share:.4f}")


if __name__ == "__main__":
    main()
