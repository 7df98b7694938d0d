"""TTT layers token by token, the inner gradients by autograd: `python make_ttt.py` writes `ttt_*.safetensors`, `--check` compares."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

N, LENGTH, WIDTH, HEADS, CHUNK = 2, 11, 12, 2, 4
HEAD = WIDTH // HEADS


def rotate(x):
    """Rotary positions 0.. within a chunk: x [n, heads, t, d]."""
    t, half = x.shape[2], x.shape[3] // 2
    angle = torch.arange(t)[:, None].to(x.dtype) * 10000.0 ** (-torch.arange(half).to(x.dtype) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def model(p, x, weights):
    """f of one head: x [.., d] with weights w, b or w1, b1, w2, b2."""
    z = x @ weights[0] + weights[1]
    if len(weights) == 4:
        z = F.gelu(z, approximate="tanh") @ weights[2] + weights[3]
    return F.layer_norm(z, (HEAD,), eps=1e-6) * p["gamma"] + p["beta"]


def layer(p, x, base, names):
    split = lambda y: y.view(N, LENGTH, HEADS, HEAD).permute(0, 2, 1, 3)
    q, k, v = (split(x @ p[f"{what}.weight"].T) for what in "qkv")
    own = (x @ p["rate.weight"].T + p["rate.bias"]).sigmoid()
    rows = []
    for n in range(N):
        heads = []
        for h in range(HEADS):
            weights = [p[f"inner.{name}"][h] for name in names]
            norm = {"gamma": p["inner.norm.weight"][h], "beta": p["inner.norm.bias"][h]}
            answers = []
            for at in range(0, LENGTH, CHUNK):
                tokens = range(at, min(at + CHUNK, LENGTH))
                qs, ks = (rotate(y[n : n + 1, h : h + 1, at : at + CHUNK])[0, 0] for y in (q, k))
                gradients = []
                for i, token in enumerate(tokens):
                    error = 0.5 * (model(norm, ks[i], weights) - (v[n, h, token] - ks[i])).square().sum()
                    gradients.append(torch.autograd.grad(error, weights, create_graph=True))
                for i, token in enumerate(tokens):
                    position = (1 / (i + 1) + p["rate.position"][i]).clamp(min=0)
                    here = list(weights)
                    for j in range(i + 1):
                        rate = base / HEAD * position * own[n, at + j, h]
                        here = [w - rate * g for w, g in zip(here, gradients[j])]
                    answers.append(qs[i] + model(norm, qs[i], here)[0])
                weights = here
            heads.append(torch.stack(answers))
        rows.append(torch.stack(heads, 1).reshape(LENGTH, WIDTH))
    y = F.layer_norm(torch.stack(rows), (WIDTH,), eps=1e-6) * p["norm.weight"] + p["norm.bias"]
    y = F.gelu(x @ p["gate.weight"].T, approximate="tanh") * y
    return y @ p["out.weight"].T


def make(folder):
    for kind, base in (("linear", 1.0), ("mlp", 0.1)):
        rng = np.random.default_rng(23)
        draw = lambda *dims, scale=1.0: (scale * rng.standard_normal(dims)).astype(np.float32)
        p = {f"{name}.weight": draw(WIDTH, WIDTH, scale=0.3) for name in ("q", "k", "v", "gate", "out")}
        p |= {"rate.weight": draw(HEADS, WIDTH, scale=0.3), "rate.bias": draw(HEADS)}
        # One position below −1/(i + 1): it learns nothing.
        p["rate.position"] = np.float32([0.1, -0.2, 0.05, -0.3])
        sizes = [(HEAD, HEAD)] if kind == "linear" else [(HEAD, 4 * HEAD), (4 * HEAD, HEAD)]
        names = []
        for i, (a, b) in enumerate(sizes):
            tag = "" if kind == "linear" else str(i + 1)
            names += [f"w{tag}", f"b{tag}"]
            p |= {f"inner.w{tag}": draw(HEADS, a, b, scale=0.4), f"inner.b{tag}": draw(HEADS, 1, b, scale=0.2)}
        p |= {"inner.norm.weight": 1 + draw(HEADS, HEAD, scale=0.2), "inner.norm.bias": draw(HEADS, HEAD, scale=0.2)}
        p |= {"norm.weight": 1 + draw(WIDTH, scale=0.2), "norm.bias": draw(WIDTH, scale=0.2)}
        x, weight = draw(N, LENGTH, WIDTH), draw(N, LENGTH, WIDTH)
        out = {}
        for dtype in (torch.float64, torch.float32):
            leaves = {name: torch.from_numpy(v).to(dtype).requires_grad_() for name, v in p.items()}
            xt = torch.from_numpy(x).to(dtype).requires_grad_()
            y = layer(leaves, xt, base, names)
            (y * torch.from_numpy(weight).to(dtype)).sum().backward()
            out[dtype] = {"y": y.detach(), "grad_x": xt.grad} | {f"grad.{name}": t.grad for name, t in leaves.items()}
        exact, single = out[torch.float64], out[torch.float32]
        worst = max(float((single[k].double() - v).abs().max() / v.abs().max()) for k, v in exact.items())
        path = Path(folder) / f"ttt_{kind}.safetensors"
        tensors = {f"net.{name}": v for name, v in p.items()} | {"x": x, "weight": weight} | exact
        store.write(path, tensors, {"layer": {"name": f"ttt-{kind}", "heads": HEADS, "chunk": CHUNK, "base_rate": base}})
        yield path, worst


def main():
    check, failed = sys.argv[1:] == ["--check"], False
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for path, worst in make(scratch if check else HERE):
            why = store.difference(HERE / path.name, path) if check else None
            print(path.name, why or f"{path.stat().st_size} bytes, float32 deviates by {worst:.1e}")
            failed |= why is not None
    sys.exit(failed)


if __name__ == "__main__":
    main()
