"""Golden values of adaptive selection: `python make_select.py` writes them, `python make_select.py --check` compares.

Losses of GDFS, DIME, INVASE and L2X on fixed random numbers, with their gradients by autograd; relaxed choices; what words contribute to
a reader's answer; the loss of reading chosen words. Everything in float64 from f32 values. The layout is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

WIDTHS, COSTS = [1, 2, 1, 1], [1.0, 2.0, 0.5, 1.0]
N, FEATURES, COLUMNS, CLASSES, HIDDEN, T, K = 6, 4, 5, 3, 5, 3, 2
WORDS, LENGTH, WIDTH, NARROW = 12, 7, 4, 3


def f32(draw, *shape, scale=1.0):
    """Normal numbers that f32 holds exactly, as float64."""
    return torch.tensor((scale * draw.normal(size=shape)).astype(np.float32)).double()


def gumbel(draw, *shape):
    return torch.tensor((-np.log(-np.log(draw.uniform(0.01, 0.99, size=shape)))).astype(np.float32)).double()


def net(params, path, x):
    """Two linear layers and a rectifier between them."""
    h = F.relu(x @ params[f"{path}.fc1.weight"].T + params[f"{path}.fc1.bias"])
    return h @ params[f"{path}.fc2.weight"].T + params[f"{path}.fc2.bias"]


def networks(draw, paths):
    params = {}
    for path, outputs in paths:
        inputs = COLUMNS + FEATURES
        params |= {
            f"{path}.fc1.weight": f32(draw, HIDDEN, inputs, scale=0.6),
            f"{path}.fc1.bias": f32(draw, HIDDEN, scale=0.3),
            f"{path}.fc2.weight": f32(draw, outputs, HIDDEN, scale=0.8),
            f"{path}.fc2.bias": f32(draw, outputs, scale=0.3),
        }
    return {name: value.requires_grad_() for name, value in params.items()}


def seen(x, mask):
    wide = torch.repeat_interleave(mask, torch.tensor(WIDTHS), dim=1)
    return torch.cat([x * wide, mask], 1)


def one_hot(scores):
    return F.one_hot(scores.argmax(1), FEATURES).double()


def gdfs(p, x, y, noise, tau):
    """Covert et al. 2023: the relaxed choice is judged, the hard one is kept."""
    mask, total = torch.zeros(N, FEATURES, dtype=torch.float64), 0.0
    for t in range(T):
        logits = net(p, "policy", seen(x, mask)) - 1e6 * mask
        soft = torch.softmax((logits + noise[t]) / tau, 1)
        total = total + F.cross_entropy(net(p, "predictor", seen(x, torch.maximum(mask, soft))), y) / T
        mask = torch.maximum(mask, one_hot(soft.detach()))
    return total


def dime(p, x, y, noise, coins, explore):
    """Gadgil et al. 2024: the value of what was bought is regressed on what it took off the loss."""
    costs = torch.tensor(COSTS, dtype=torch.float64)

    def said(mask):
        log_p = torch.log_softmax(net(p, "predictor", seen(x, mask)), 1)
        entropy = -(log_p.exp() * log_p).sum(1, keepdim=True).detach()
        return torch.sigmoid(net(p, "policy", seen(x, mask))) * entropy, F.nll_loss(log_p, y, reduction="none")

    mask = torch.zeros(N, FEATURES, dtype=torch.float64)
    value, before = said(mask)
    total = before.mean()
    for t in range(T):
        wish = torch.where(coins[t] < explore, noise[t], value.detach() / costs) - 1e6 * mask
        bought = one_hot(wish)
        mask = torch.maximum(mask, bought)
        next_value, after = said(mask)
        missed = ((value * bought).sum(1) - (before - after).detach()) ** 2
        total = total + (after + missed).mean()
        value, before = next_value, after
    return total / (T + 1)


def invase(p, x, y, noise, price):
    """Yoon et al. 2019: REINFORCE with the reward of critic against baseline, and a price of what is kept."""
    whole = seen(x, torch.ones(N, FEATURES, dtype=torch.float64))
    keep = torch.sigmoid(net(p, "policy", whole))
    s = (noise < keep).double()
    critic = F.cross_entropy(net(p, "predictor", seen(x, s)), y, reduction="none")
    baseline = F.cross_entropy(net(p, "baseline", whole), y, reduction="none")
    log_chance = (s * keep.log() + (1 - s) * (1 - keep).log()).sum(1)
    actor = (critic - baseline).detach() * log_chance + price * keep.mean(1)
    return (critic + baseline + actor).mean()


def l2x(p, x, y, noise, tau):
    """Chen et al. 2018: the largest of k Concrete draws."""
    logits = net(p, "policy", seen(x, torch.ones(N, FEATURES, dtype=torch.float64)))
    mask = torch.softmax((logits[:, None, :] + noise) / tau, 2).max(1).values
    return F.cross_entropy(net(p, "predictor", seen(x, mask)), y), mask


def read(p, ids, w):
    """One head of self-attention over words with weights, their weighted mean, a perceptron."""
    e = p["reader.table"][ids]
    q, k, v = (e @ p[f"reader.{name}.weight"].T for name in ("query", "key", "value"))
    scores = q @ k.transpose(1, 2) / WIDTH**0.5
    scores = scores + torch.where(w > 0, w.clamp(min=1e-300).log(), torch.tensor(-1e9, dtype=torch.float64))[:, None, :]
    h = e + torch.softmax(scores, 2) @ v
    mean = (w[:, :, None] * h).sum(1) / (1 + w.sum(1, keepdim=True))
    hidden = F.relu(mean @ p["reader.fc1.weight"].T + p["reader.fc1.bias"])
    return hidden @ p["reader.fc2.weight"].T + p["reader.fc2.bias"]


def score(p, ids):
    e, there = p["scorer.table"][ids], (ids > 0).double()
    context = (there[:, :, None] * e).sum(1) / there.sum(1, keepdim=True) ** 0.5
    asked = context @ p["scorer.context.weight"].T + p["scorer.context.bias"]
    return (e * asked[:, None, :]).sum(2)


def words(draw):
    p = {"reader.table": f32(draw, WORDS, WIDTH), "scorer.table": f32(draw, WORDS, NARROW)}
    for name in ("query", "key", "value", "fc1"):
        p[f"reader.{name}.weight"] = f32(draw, WIDTH, WIDTH, scale=0.7)
    p |= {"reader.fc1.bias": f32(draw, WIDTH, scale=0.3), "reader.fc2.weight": f32(draw, CLASSES, WIDTH)}
    p |= {"reader.fc2.bias": f32(draw, CLASSES, scale=0.3), "scorer.context.weight": f32(draw, NARROW, NARROW)}
    p |= {"scorer.context.bias": f32(draw, NARROW)}
    ids = torch.tensor(draw.randint(1, WORDS, size=(4, LENGTH)))
    ids[1, 5:] = 0
    ids[2, 2:] = 0
    out = {"words.ids": ids} | {f"words.{name}": value for name, value in p.items()}
    w = (ids > 0).double().requires_grad_()
    logits = read(p, ids, w)
    sign = torch.where(F.one_hot(logits.argmax(1), CLASSES) > 0, 1.0, -1.0 / (CLASSES - 1))
    (gradient,) = torch.autograd.grad((logits * sign).sum(), w)
    gradient = gradient * (ids > 0)
    size = (gradient**2).sum(1, keepdim=True) / (ids > 0).sum(1, keepdim=True)
    out["words.logits"], out["words.contributions"] = logits, gradient / size.sqrt()
    scores = score(p, ids)
    out["words.scores"] = scores * (ids > 0)
    # The best 30 % of each text's words, at least one.
    chosen = torch.zeros_like(w)
    for row, length in enumerate((ids > 0).sum(1).tolist()):
        chosen[row, scores[row, :length].topk(max(1, int(0.3 * length))).indices] = 1.0
    out["words.chosen"], out["words.read"] = chosen, read(p, ids, chosen)
    return out


def values():
    draw = np.random.RandomState(3)
    x, y = f32(draw, N, COLUMNS), torch.tensor(draw.randint(0, CLASSES, size=N))
    out = {"x": x, "y": y}
    paths = [("predictor", CLASSES), ("policy", FEATURES), ("baseline", CLASSES)]
    p = networks(draw, paths)
    out |= {f"params.{name}": value for name, value in p.items()}
    steps, draws = gumbel(draw, T, N, FEATURES), gumbel(draw, N, K, FEATURES)
    uniform = torch.tensor(draw.uniform(size=(T, N, FEATURES)).astype(np.float32)).double()
    coins = torch.tensor(draw.uniform(size=(T, N, 1)).astype(np.float32)).double()
    assert (coins < 0.4).any() and (coins >= 0.4).any()
    losses = {
        "gdfs": (gdfs(p, x, y, steps, 0.5), steps),
        "dime": (dime(p, x, y, uniform, coins, 0.4), uniform),
        "invase": (invase(p, x, y, uniform[0], 0.3), uniform[0]),
        "l2x": (l2x(p, x, y, draws, 0.5)[0], draws),
    }
    out["coins"], out["l2x.mask"] = coins, l2x(p, x, y, draws, 0.5)[1]
    for name, (loss, noise) in losses.items():
        gradients = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
        out[f"{name}.noise"], out[f"{name}.loss"] = noise, loss
        for path, gradient in zip(p, gradients):
            if gradient is not None:
                out[f"{name}.grad.{path}"] = gradient
    return out | words(draw)


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch if check else HERE) / "select.safetensors"
        store.write(path, values(), {"widths": WIDTHS, "costs": COSTS})
        if check and (why := store.difference(HERE / path.name, path)):
            sys.exit(f"{path.name}: {why}")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
