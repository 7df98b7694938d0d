"""The entropy family, step by step: pseudo-labels, RPL, ETA, EATA, SAR, DeYO, COME, SHOT-IM, ROID, RDumb, ASR.

A method is a function of (network, dtype) that returns a walk: a function of (step, batch) that returns what the trace
records. The objective is differentiated by PyTorch; optimizers are PyTorch's.
"""

import numpy as np
import philox
import torch
from network import AFFINE, clear_of_noise, entropy, forward, marginal_entropy, with_leaves

EARLY = ("bn1.weight", "bn1.bias")
FEATURES = ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias")
LN3 = float(np.log(3))


def clear(values, limit, margin=2e-4):
    """Values compared with a limit, none of them so near that rounding could decide."""
    assert float((values - limit).abs().min()) > margin
    return values


def cosines(p, mean):
    return (p @ mean) / (p.norm(dim=1) * mean.norm())


def unit_range(x):
    return (x - x.min()) / (x.max() - x.min())


def conservative(z):
    """COME: entropy of C + 1 outcomes, the length of the logits held."""
    length = z.norm(dim=1, keepdim=True)
    kept = z / length * length.detach()
    return entropy(torch.cat([kept, torch.full_like(z[:, :1], np.log(z.shape[1]))], 1))


def likelihood_ratio(z):
    p = z.softmax(1).clamp(max=0.99)
    return -(p * (p / (1 - p) + 1e-5).log()).sum(1)


def symmetric(z, t, alpha=0.5):
    return -(1 - alpha) * (t.softmax(1) * z.log_softmax(1)).sum(1) - alpha * (z.softmax(1) * t.log_softmax(1)).sum(1)


def generalized(z, q=0.8):
    return (1 - z.softmax(1).max(1).values ** q) / q


def shuffled(x, step):
    """Patches of 2 × 2 of the 8 × 8 image on a 4 × 4 grid, in the order that the session draws."""
    out = torch.empty_like(x)
    for row, key in enumerate(philox.split(philox.fold(philox.of_input(0, step * len(x)), 2), len(x))):
        order = philox.permutation(key, 16)
        patches = x[row].reshape(1, 4, 2, 4, 2).permute(1, 3, 0, 2, 4).reshape(16, -1)[torch.from_numpy(order)]
        out[row] = patches.reshape(4, 4, 1, 2, 2).permute(2, 0, 3, 1, 4).reshape(1, 8, 8)
    return out


class Method:
    """The walk of most methods; the parts are arguments."""

    def __init__(self, net, dtype, *, moves=AFFINE, optimizer, loss=entropy, sure=None, unseen=None, shape=None,
                 weight=None, radius=None, recover=None, fisher=None, every=None):  # fmt: skip
        self.start, self.moves, self.make_optimizer = {k: v.to(dtype) for k, v in net.items()}, moves, optimizer
        self.loss, self.sure, self.unseen, self.shape, self.weight = loss, sure, unseen, shape, weight
        self.radius, self.recover, self.fisher, self.every = radius, recover, fisher, every
        self.dtype = dtype
        self.reset()

    def reset(self):
        self.net, self.moving = with_leaves(self.start, self.moves, self.dtype)
        self.optimizer = self.make_optimizer(list(self.moving.values()))
        self.mean_p, self.mean_loss, self.updates = None, None, 0

    def logits(self, x):
        return forward(self.net, x, "batch")

    def __call__(self, step, x):
        z = self.logits(x)
        with torch.no_grad():
            p, h = z.softmax(1), entropy(z)
            keep = torch.ones(len(x), dtype=torch.bool)
            if self.sure:
                keep &= clear(h, self.sure * LN3) < self.sure * LN3
            if self.unseen and self.mean_p is not None:
                keep &= clear(cosines(p, self.mean_p), self.unseen).abs() < self.unseen
            drop = None
            if self.shape is not None:
                y, rows = p.argmax(1), torch.arange(len(x))
                drop = p[rows, y] - self.logits(shuffled(x, step)).softmax(1)[rows, y]
                keep &= clear(drop, self.shape) > self.shape
            weights = self.weight(h, drop) if self.weight else torch.ones(len(x), dtype=self.dtype)
            if self.unseen and keep.any():
                new = p[keep].mean(0)
                self.mean_p = new if self.mean_p is None else 0.9 * self.mean_p + 0.1 * new
        out = {"logits": z.detach()}
        if self.sure:
            out["kept"] = keep.to(torch.float64)
        objective = (weights[keep] * self.loss(z)[keep]).mean() if keep.any() else z.sum() * 0
        if self.fisher is not None:
            parts = [(f * (p - self.start[n]) ** 2).sum() for (n, p), f in zip(self.moving.items(), self.fisher)]
            objective = objective + self.weight_of_anchor * sum(parts)
        out["loss"] = objective.detach().reshape(1)
        if keep.any():
            self.step(x, objective, keep)
        out |= {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}
        if self.unseen:
            out["memory/seen_probability"] = torch.zeros(3) if self.mean_p is None else self.mean_p
        if self.recover is not None:
            out["memory/kept_loss"] = torch.zeros(1) if self.mean_loss is None else self.mean_loss.reshape(1)
        return out

    def step(self, x, objective, keep):
        gradients = torch.autograd.grad(objective, list(self.moving.values()))
        if self.radius is not None:
            length = torch.sqrt(sum((g**2).sum() for g in gradients))
            old = {n: p.detach().clone() for n, p in self.moving.items()}
            with torch.no_grad():
                for p, g in zip(self.moving.values(), gradients):
                    p += self.radius * g / (length + 1e-12)
            z = self.logits(x)
            keep = keep & (clear(entropy(z).detach(), self.sure * LN3) < self.sure * LN3)
            assert keep.any()
            mean = self.loss(z)[keep].mean()
            gradients = torch.autograd.grad(mean, list(self.moving.values()))
            with torch.no_grad():
                for n, p in self.moving.items():
                    p.copy_(old[n])
            mean = mean.detach()
            self.mean_loss = mean if self.mean_loss is None else 0.9 * self.mean_loss + 0.1 * mean
        if isinstance(self.optimizer, torch.optim.Adam):
            clear_of_noise(gradients)
        for p, g in zip(self.moving.values(), gradients):
            p.grad = g
        self.optimizer.step()
        self.updates += 1
        if self.recover is not None:
            assert abs(float(self.mean_loss) - self.recover) > 1e-4
        if (self.recover is not None and self.mean_loss < self.recover) or self.updates == self.every:
            self.reset()


def adam(rate):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, foreach=False)


def sgd(rate, **more):
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, foreach=False, **more)


class Pseudo(Method):
    """Rows are kept by confidence."""

    def __call__(self, step, x):
        z = self.logits(x)
        log_p = z.log_softmax(1)
        keep = clear(log_p.max(1).values.exp().detach(), 0.9) > 0.9
        loss = -log_p.max(1).values[keep].mean() if keep.any() else z.sum() * 0
        out = {"logits": z.detach(), "kept": keep.double(), "loss": loss.detach().reshape(1)}
        if keep.any():
            self.step(x, loss, keep)
        return out | {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}


class Spread(Method):
    """SHOT-IM: the whole batch at once."""

    def __call__(self, step, x):
        z = self.logits(x)
        loss = entropy(z).mean() - marginal_entropy(z)
        self.step(x, loss, None)
        return {"logits": z.detach(), "loss": loss.detach().reshape(1)} | {
            f"affine.{n}": p.detach().clone() for n, p in self.moving.items()
        }


class Roid(Method):
    """Weights by diversity and certainty, a mirrored view, weight ensembling, prior correction of probabilities."""

    def answer(self, p, view):
        return p

    def reset(self):
        super().reset()
        self.classes = torch.full((3,), 1 / 3, dtype=self.dtype)

    def __call__(self, step, x):
        z, view = self.logits(x), self.logits(x.flip(3))
        with torch.no_grad():
            p = z.softmax(1)
            diversity, certainty = unit_range(1 - cosines(p, self.classes)), unit_range(-entropy(z))
            keep = clear(diversity, diversity.mean()) >= diversity.mean()
            weights = (diversity * certainty * 3).exp()
            self.classes = 0.9 * self.classes + 0.1 * p.mean(0)
        rows = likelihood_ratio(z) + symmetric(view, z)
        loss = (weights * rows)[keep].sum() / len(x)
        self.step(x, loss, keep)
        with torch.no_grad():
            p = self.answer(p, view)
            for n, q in self.moving.items():
                q.copy_(0.99 * q + 0.01 * self.start[n])
            prior = p.mean(0)
            smooth = max(1 / len(x), 1 / 3) / prior.max()
            answer = p * (prior + smooth) / (1 + 3 * smooth)
            answer = (answer / answer.sum(1, keepdim=True)).log()
        out = {"logits": answer, "kept": keep.double(), "loss": loss.detach().reshape(1), "memory/class_probability": self.classes}
        return out | {f"affine.{n}": q.detach().clone() for n, q in self.moving.items()}


class RoidViews(Roid):
    """ROID that answers with the mean of the row and its view."""

    def answer(self, p, view):
        return (p + view.softmax(1)) / 2


def margin(h, drop):
    return (0.4 * LN3 - h).exp()


def margin_and_drop(h, drop):
    return (0.4 * LN3 - h).exp() + drop.exp()


class Eata(Method):
    """ETA with an anchor by the Fisher information of eight clean images, in batches of four or one by one."""

    weight_of_anchor = 50.0


FISHER = torch.linspace(0.5, 2.0, 24, dtype=torch.float64)


def fisher_of(dtype):
    """Given importances, one for each element in the order of the overlay."""
    return [f.to(dtype) for f in torch.split(FISHER, [4, 4, 8, 8])]


ONLINE = {
    "pseudo_label": ({"threshold": 0.9, "rate": 1e-3}, lambda net, d: Pseudo(net, d, optimizer=adam(1e-3))),
    "rpl": ({"q": 0.8, "rate": 1e-3}, lambda net, d: Method(net, d, optimizer=adam(1e-3), loss=generalized)),
    "come": ({"rate": 1e-3}, lambda net, d: Method(net, d, optimizer=adam(1e-3), loss=conservative)),
    "eta": (
        {"rate": 1e-3, "cosine": 0.6},
        lambda net, d: Method(net, d, optimizer=adam(1e-3), sure=0.4, unseen=0.6, weight=margin),
    ),
    "eta_come": (
        {"rate": 1e-3, "cosine": 0.6},
        lambda net, d: Method(net, d, optimizer=adam(1e-3), sure=0.4, unseen=0.6, weight=margin, loss=conservative),
    ),
    "eata": (
        {"rate": 1e-3, "cosine": 0.6, "anchor": 50.0, "fisher": FISHER.tolist()},
        lambda net, d: Eata(net, d, optimizer=adam(1e-3), sure=0.4, unseen=0.6, weight=margin, fisher=fisher_of(d)),
    ),
    "sar": (
        {"rate": 0.02, "radius": 0.05, "momentum": 0.9},
        lambda net, d: Method(net, d, moves=EARLY, optimizer=sgd(0.02, momentum=0.9), sure=0.4, radius=0.05, recover=0.2 / np.log(1000) * LN3),
    ),
    "sar_recover": (
        {"rate": 0.02, "radius": 0.05, "momentum": 0.9, "recover": 0.2},
        lambda net, d: Unmarked(net, d, moves=EARLY, optimizer=sgd(0.02, momentum=0.9), sure=0.4, radius=0.05, recover=0.2 * LN3),
    ),
    "sar_come": (
        {"rate": 0.02, "radius": 0.05, "momentum": 0.9},
        lambda net, d: Method(net, d, moves=EARLY, optimizer=sgd(0.02, momentum=0.9), loss=conservative, sure=0.4, radius=0.05, recover=0.2 / np.log(1000) * LN3),
    ),
    "deyo": (
        {"rate": 1e-3},
        lambda net, d: Method(net, d, moves=EARLY, optimizer=adam(1e-3), sure=0.5, shape=0.2, weight=margin_and_drop),
    ),
    "shot_im": (
        {"rate": 0.01, "momentum": 0.9, "nesterov": True},
        lambda net, d: Spread(net, d, moves=FEATURES, optimizer=sgd(0.01, momentum=0.9, nesterov=True)),
    ),
    "roid": ({"rate": 1e-3}, lambda net, d: Roid(net, d, optimizer=adam(1e-3))),
    "roid_views": ({"rate": 1e-3}, lambda net, d: RoidViews(net, d, optimizer=adam(1e-3))),
    "rdumb": (
        {"rate": 1e-3, "cosine": 0.6, "every": 3},
        lambda net, d: Unmarked(net, d, optimizer=adam(1e-3), sure=0.4, unseen=0.6, weight=margin, every=3),
    ),
}  # fmt: skip


class Selective(Method):
    """ASR: the later tensors go back where the batch's mean prediction is surer than its running level."""

    def reset(self):
        super().reset()
        self.level = torch.tensor(np.log(0.975 * 3), dtype=self.dtype)

    def __call__(self, step, x):
        out = super().__call__(step, x)
        if not out.pop("kept").any():
            out["kept_tensors"] = torch.tensor([9.0])
        else:
            out["kept_tensors"] = torch.tensor([9.0])
            z, source = out["logits"], forward(self.start, x, "source")
            e = entropy(z.mean(0, keepdim=True))[0]
            assert abs(float(e - self.level)) > 1e-4
            if e < self.level:
                scope = max(0.5 - 20 * float(self.level - e), 0.0) * len(self.moving)
                assert abs(scope - round(scope)) > 1e-3 or scope == 0
                out["kept_tensors"] = torch.tensor([float(int(scope))])
                with torch.no_grad():
                    for i, (n, p) in enumerate(self.moving.items()):
                        if i >= int(scope):
                            p.copy_(self.start[n])
                self.optimizer = self.make_optimizer(list(self.moving.values()))
                self.level = torch.tensor(np.log(0.975 * 3), dtype=self.dtype)
            else:
                m = 0.85 + 0.15 * (z.argmax(1) != source.argmax(1)).to(self.dtype).mean()
                self.level = m * self.level + (1 - m) * e
        out["memory/mean_entropy_level"] = self.level.reshape(1)
        return out | {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}


ONLINE["asr"] = (
    {"rate": 1e-3, "cosine": 0.6, "first": 0.975},
    lambda net, d: Selective(net, d, optimizer=adam(1e-3), sure=0.4, unseen=0.6, weight=margin),
)


class Unmarked(Method):
    """The receipts of a batch after which everything is reset say so, and not which rows were kept."""

    def __call__(self, step, x):
        out = super().__call__(step, x)
        out.pop("kept")
        return out
