"""What PyTorch gets with EfficientNet-Lite0 on the images that `stream_benchmark --export` wrote, beside what that run got.

`python efficientnet_reference.py WEIGHTS.safetensors EXPORT ROWS.json [--batch 48]`: each shift alone, batches in the stored
order. Methods: frozen, and the batch's own statistics (biased variance).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

STAGES = [(1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6)]


def same(x, weight, stride, groups=1):
    """A convolution with TensorFlow's SAME padding."""
    pads = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // stride) - 1) * stride + weight.shape[2] - n, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def forward(net, x, batch):
    def norm(x, path):
        w, b = net[f"{path}.weight"], net[f"{path}.bias"]
        if batch:
            return F.batch_norm(x, None, None, w, b, True, 0.0, 1e-3)
        return F.batch_norm(x, net[f"{path}.running_mean"], net[f"{path}.running_var"], w, b, False, 0.0, 1e-3)

    x = F.relu6(norm(same(x, net["_conv_stem.weight"], 2), "_bn0"))
    i = 0
    for blocks, _, first, factor in STAGES:
        for at in range(blocks):
            path, stride, h = f"_blocks.{i}", first if at == 0 else 1, x
            if factor > 1:
                h = F.relu6(norm(same(h, net[f"{path}._expand_conv.weight"], 1), f"{path}._bn0"))
            h = F.relu6(norm(same(h, net[f"{path}._depthwise_conv.weight"], stride, h.shape[1]), f"{path}._bn1"))
            h = norm(same(h, net[f"{path}._project_conv.weight"], 1), f"{path}._bn2")
            x = x + h if stride == 1 and h.shape == x.shape else h
            i += 1
    x = F.relu6(norm(same(x, net["_conv_head.weight"], 1), "_bn1"))
    return F.linear(x.mean((2, 3)), net["_fc.weight"], net["_fc.bias"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("export", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--batch", type=int, default=48)
    o = parser.parse_args()
    torch.set_num_threads(1)
    net = load_file(o.weights)
    rows = json.loads(o.rows.read_text())
    rows = rows["rows"] if isinstance(rows, dict) else rows
    ours = {(row["shift"], row["method"]): row for row in rows if row.get("stream") == "iid"}
    for path in sorted(o.export.glob("*.images.npy")):
        shift = path.name.removesuffix(".images.npy")
        order = np.load(o.export / f"{shift}.order.npy")
        labels = torch.from_numpy(np.load(o.export / f"{shift}.labels.npy").astype(np.int64)[order])
        x = (torch.from_numpy(np.load(path)[order]).float() - 127) / 128
        for method in ("frozen", "statistics"):
            wrong = 0
            with torch.no_grad():
                for at in range(0, len(x), o.batch):
                    logits = forward(net, x[at : at + o.batch], method == "statistics")
                    wrong += int((logits.argmax(1) != labels[at : at + o.batch]).sum())
            row = ours.get((shift, method))
            print(f"{shift:<10} {method:<10} PyTorch {1 - wrong / len(x):.4f}", f"here {1 - row['error'] / 100:.4f}" if row else "")


if __name__ == "__main__":
    main()
