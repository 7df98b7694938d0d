"""Golden values of pruning: `python make_prune.py` writes them, `python make_prune.py --check` compares.

Masks by `torch.nn.utils.prune`; Wanda's scores and masks by the paper's formula; the derivatives that Taylor scores square, by
autograd through gates of 1; reductions of tokens as the published code of EViT (`models/evit.py`) and ToMe (`tome/merge.py`)
computes them, written again here; a network with gated channels (FBS) computed densely. The layout is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import prune

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402


def masks(draw):
    """Two layers without equal magnitudes, and their masks."""
    layers = [torch.nn.Conv2d(4, 6, 3, bias=False), torch.nn.Linear(6, 8, bias=False)]
    out = {}
    for name, layer in zip(["conv", "fc"], layers):
        weight = draw.normal(size=layer.weight.shape) * (1.0 if name == "conv" else 0.4)
        layer.weight.data = torch.tensor(weight, dtype=torch.float32)
        out[f"mask.{name}.weight"] = layer.weight.data.numpy().copy()
        one = type(layer)(4, 6, 3, bias=False) if name == "conv" else type(layer)(6, 8, bias=False)
        one.weight.data = layer.weight.data.clone()
        prune.l1_unstructured(one, "weight", amount=0.3)
        out[f"mask.{name}.layer"] = one.weight_mask.numpy()
    prune.global_unstructured([(l, "weight") for l in layers], pruning_method=prune.L1Unstructured, amount=0.37)
    out["mask.conv.global"], out["mask.fc.global"] = (l.weight_mask.numpy() for l in layers)
    return out


def wanda(draw):
    """|W|·‖X‖ of a linear layer on 20 rows; half of each row, and 2 of 4, as `prune_wanda` of the published code."""
    weight = draw.normal(size=(5, 8)).astype(np.float32)
    x = (draw.normal(size=(20, 8)) * np.exp(draw.normal(size=8))).astype(np.float32)
    score = np.abs(weight) * np.linalg.norm(x.astype(np.float64), axis=0)
    half, pattern = np.ones_like(weight), np.ones_like(weight)
    for row, mask in zip(score, half):
        mask[np.argsort(row)[:4]] = 0
    for row, mask in zip(score, pattern):
        for start in range(0, 8, 4):
            mask[start + np.argsort(row[start : start + 4])[:2]] = 0
    return {"wanda.weight": weight, "wanda.x": x, "wanda.score": score, "wanda.half": half, "wanda.2of4": pattern}


def taylor(draw):
    """A convolution, batch norm, convolution, linear; (dL/dgate)² with a gate of 1 on each channel behind a ReLU, the mean
    over two batches."""
    shapes = {
        "conv1.weight": (6, 2, 3, 3), "bn1.weight": (6,), "bn1.bias": (6,), "conv2.weight": (4, 6, 3, 3), "fc.weight": (3, 4), "fc.bias": (3,),
    }  # fmt: skip
    p = {k: torch.tensor(draw.normal(size=s) * 0.5, dtype=torch.float64) for k, s in shapes.items()}
    p["bn1.running_mean"] = torch.tensor(draw.normal(size=6) * 0.1)
    p["bn1.running_var"] = torch.tensor(draw.uniform(0.5, 1.5, size=6))
    p = {k: v.float().double() for k, v in p.items()}
    x = torch.tensor(draw.normal(size=(2, 4, 2, 5, 5))).float().double()
    y = torch.tensor(draw.randint(0, 3, size=(2, 4)))
    total1, total2 = torch.zeros(6, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for xb, yb in zip(x, y):
        g1 = torch.ones(1, 6, 1, 1, dtype=torch.float64, requires_grad=True)
        g2 = torch.ones(1, 4, 1, 1, dtype=torch.float64, requires_grad=True)
        h = F.conv2d(xb, p["conv1.weight"], padding=1)
        h = F.batch_norm(h, p["bn1.running_mean"], p["bn1.running_var"], p["bn1.weight"], p["bn1.bias"], False, 0.0, 1e-5)
        h = F.conv2d(F.relu(h) * g1, p["conv2.weight"], padding=1)
        z = F.linear((F.relu(h) * g2).mean((2, 3)), p["fc.weight"], p["fc.bias"])
        a, b = torch.autograd.grad(F.cross_entropy(z, yb), [g1, g2])
        total1 += a.flatten() ** 2 / 2
        total2 += b.flatten() ** 2 / 2
    out = {f"taylor.{k}": v.numpy() for k, v in p.items()}
    return out | {"taylor.x": x.numpy(), "taylor.y": y.float().numpy(), "taylor.conv1": total1.numpy(), "taylor.conv2": total2.numpy()}


def tokens(draw):
    b, t, d, heads, c = 2, 9, 6, 3, 4
    x = torch.tensor(draw.normal(size=(b, t, d))).float().double()
    keys = torch.tensor(draw.normal(size=(b, t, c))).float().double()
    size = torch.tensor(draw.randint(1, 4, size=(b, t))).double()
    q, k, v = (torch.tensor(draw.normal(size=(b, heads, t, c))).float().double() for _ in range(3))
    weights = ((q @ k.transpose(-2, -1)) * c**-0.5 + size.log()[:, None, None, :]).softmax(-1)
    attended = weights @ v
    # EViT: mean over heads of the class token's attention, top k, the rest fused.
    cls = weights[:, :, 0, 1:].mean(1)
    keep = 4
    idx = torch.topk(cls, keep, dim=1, largest=True, sorted=True)[1]
    others = x[:, 1:]
    kept = torch.gather(others, 1, idx[..., None].expand(-1, -1, d))
    rest = torch.stack([torch.tensor([i for i in range(t - 1) if i not in row]) for row in idx.tolist()])
    extra = (torch.gather(others, 1, rest[..., None].expand(-1, -1, d)) * torch.gather(cls, 1, rest)[..., None]).sum(1, keepdim=True)
    evit = torch.cat([x[:, :1], kept, extra], 1)
    # ToMe: bipartite_soft_matching with a class token, merge_wavg.
    metric = keys / keys.norm(dim=-1, keepdim=True)
    r = 3
    scores = metric[..., ::2, :] @ metric[..., 1::2, :].transpose(-1, -2)
    scores[..., 0, :] = -np.inf
    node_max, node_idx = scores.max(dim=-1)
    edge = node_max.argsort(dim=-1, descending=True)[..., None]
    unm, src = edge[..., r:, :].sort(dim=1)[0], edge[..., :r, :]
    dst_idx = node_idx[..., None].gather(dim=-2, index=src)

    def merge(x):
        s, dst = x[..., ::2, :], x[..., 1::2, :]
        n, t1, w = s.shape
        left = s.gather(dim=-2, index=unm.expand(n, t1 - r, w))
        dst = dst.scatter_add(-2, dst_idx.expand(n, r, w), s.gather(dim=-2, index=src.expand(n, r, w)))
        return torch.cat([left, dst], dim=1)

    total = merge(size[..., None])
    merged = merge(x * size[..., None]) / total
    named = dict(x=x, keys=keys, size=size, q=q, k=k, v=v, attended=attended, cls=cls, evit=evit, merged=merged, merged_size=total[..., 0])
    return {f"tokens.{k}": v.numpy() for k, v in named.items()}


def gate(draw):
    """Two gated layers, answered with half of the channels; dense, losing channels set to 0."""
    p, inputs = {}, 2
    for i, outputs in [(1, 6), (2, 8)]:
        p[f"conv{i}.weight"] = draw.normal(size=(outputs, inputs, 3, 3)) * 0.4
        p[f"bn{i}.weight"], p[f"bn{i}.bias"] = draw.uniform(0.5, 1.5, size=outputs), draw.normal(size=outputs) * 0.2
        p[f"bn{i}.running_mean"], p[f"bn{i}.running_var"] = draw.normal(size=outputs) * 0.1, draw.uniform(0.5, 1.5, size=outputs)
        p[f"gate{i}.weight"], p[f"gate{i}.bias"] = draw.normal(size=(outputs, inputs)), np.ones(outputs)
        inputs = outputs
    p["fc.weight"], p["fc.bias"] = draw.normal(size=(3, inputs)), draw.normal(size=3)
    p = {k: torch.tensor(v).float().double() for k, v in p.items()}
    x = torch.tensor(draw.normal(size=(5, 2, 6, 6))).float().double()
    out = {"gate.x": x.numpy()} | {f"gate.{k}": v.numpy() for k, v in p.items()}
    for density in [1.0, 0.5, 0.25]:
        h = x
        for i, stride in [(1, 1), (2, 2)]:
            g = F.relu(h.abs().mean((2, 3)) @ p[f"gate{i}.weight"].T + p[f"gate{i}.bias"])
            k = int(np.ceil(density * g.shape[1]))
            lose = torch.ones_like(g).scatter(1, g.topk(k, dim=1)[1], 0.0)
            h = F.conv2d(h, p[f"conv{i}.weight"], padding=1, stride=stride)
            h = F.batch_norm(h, p[f"bn{i}.running_mean"], p[f"bn{i}.running_var"], p[f"bn{i}.weight"], p[f"bn{i}.bias"], False, 0.0, 1e-5)
            h = F.relu(h * (g * (1 - lose))[:, :, None, None])
        out[f"gate.logits.{density}"] = F.linear(h.mean((2, 3)), p["fc.weight"], p["fc.bias"]).numpy()
    return out


def everything():
    draw = np.random.RandomState(11)
    out = {}
    for part in [masks, wanda, taylor, tokens, gate]:
        out |= part(draw)
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in out.items()}


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch if check else HERE) / "prune.safetensors"
        store.write(path, everything(), {})
        if check and (why := store.difference(HERE / path.name, path)):
            sys.exit(f"{path.name}: {why}")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
