"""CoTTA with plain SGD, RoTTA, the memory of NOTE, and online distillation, step by step: see README.md."""

import numpy as np
import philox
import torch
import torch.nn.functional as F
from network import AFFINE, EPS, clear_of_noise, entropy, forward, network, rectify, with_leaves

ALL = ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias", "linear.weight", "linear.bias")


class Cotta:
    def __init__(self, net, dtype, rate=0.05, keep=0.9, restore=0.05):
        self.start = {k: v.to(dtype) for k, v in net.items()}
        self.net, self.moving = with_leaves(self.start, ALL, dtype)
        self.teacher = {k: v.clone() for k, v in self.start.items()}
        self.rate, self.keep, self.restore = rate, keep, restore

    def __call__(self, step, x):
        with torch.no_grad():
            # The image, its mirror image, and one pixel to the right; each view a batch of its own.
            views = [x, x.flip(3), F.pad(x, (1, 0))[..., :-1]]
            target = torch.stack([forward(self.teacher, v, "batch") for v in views]).mean(0)
        z = forward(self.net, x, "batch")
        loss = -(target.softmax(1) * z.log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(self.moving.values()))
        draws = philox.uniform(philox.fold(philox.fold(philox.of_input(0, step * len(x)), 4), 0), sum(p.numel() for p in self.moving.values()))
        back, at = torch.from_numpy(draws < self.restore), 0
        with torch.no_grad():
            for (name, p), g in zip(self.moving.items(), gradients):
                p -= self.rate * g
                self.teacher[name] = self.keep * self.teacher[name] + (1 - self.keep) * p
                here = back[at : at + p.numel()].reshape(p.shape)
                p.copy_(torch.where(here, self.start[name], p))
                at += p.numel()
        flat = torch.cat([(self.teacher[n] - self.start[n]).flatten() for n in self.moving])
        out = {"logits": target, "loss": loss.detach().reshape(1), "memory/teacher": flat}
        return out | {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}


class Bank:
    """Inputs of before, one dict a place, in the order in which places were filled."""

    def __init__(self, size, policy):
        self.size, self.policy, self.items, self.seen = size, policy, [], [0, 0, 0]

    def score(self, item):
        return 1 / (1 + np.exp(-item["age"] / self.size)) + item["entropy"] / np.log(3)

    def timely(self, new):
        mine = [i for i in self.items if i["class"] == new["class"]]
        if len(mine) < self.size / 3:
            if len(self.items) < self.size:
                return self.items.append(new)
            counts = [sum(i["class"] == c for i in self.items) for c in range(3)]
            mine = [i for i in self.items if counts[i["class"]] == max(counts)]
        ranked = sorted(mine, key=self.score)
        worst, own = ranked[-1], self.score(new | {"age": 0})
        assert abs(self.score(worst) - own) > 1e-4
        assert len(ranked) < 2 or self.score(worst) - self.score(ranked[-2]) > 1e-4
        if self.score(worst) > own:
            self.items[next(k for k, i in enumerate(self.items) if i is worst)] = new

    def reservoir(self, new, draws):
        counts = [sum(i["class"] == c for i in self.items) for c in range(3)]
        held = counts[new["class"]]
        if len(self.items) < self.size:
            return self.items.append(new)
        if held < max(counts):
            places = [k for k, i in enumerate(self.items) if counts[i["class"]] == max(counts)]
        elif draws[1] < held / self.seen[new["class"]]:
            places = [k for k, i in enumerate(self.items) if i["class"] == new["class"]]
        else:
            return
        self.items[places[int(draws[0] * len(places))]] = new

    def offer(self, x, z, key):
        draws = philox.uniform(key, 2 * len(x)).reshape(-1, 2)
        for row, c, h, d in zip(x, z.argmax(1).tolist(), entropy(z).tolist(), draws):
            new = {"image": row, "class": c, "entropy": h, "age": 0}
            self.seen[c] += 1
            self.timely(new) if self.policy == "timely" else self.reservoir(new, d)
            for item in self.items:
                item["age"] += 1

    def facts(self):
        rows = [[i[k] for i in self.items] + [0.0] * (self.size - len(self.items)) for k in ("class", "entropy", "age")]
        return torch.tensor(rows + [[float(k < len(self.items)) for k in range(self.size)]], dtype=torch.float64)


class Robust:
    """The network with running statistics of its own, which move by `share` at each training pass."""

    def __init__(self, start, share):
        self.buffers = {k: v.clone() for k, v in start.items() if "running" in k}
        self.share = share

    def normalized(self, net, h, layer, training):
        mean, var = self.buffers[f"{layer}.running_mean"], self.buffers[f"{layer}.running_var"]
        if training:
            mean = (1 - self.share) * mean + self.share * h.mean((0, 2, 3))
            var = (1 - self.share) * var + self.share * h.var((0, 2, 3), correction=0)
            self.buffers[f"{layer}.running_mean"], self.buffers[f"{layer}.running_var"] = mean.detach(), var.detach()
        column = lambda v: v.view(1, -1, 1, 1)
        scale = net[f"{layer}.weight"] / (var + EPS).sqrt()
        return (h - column(mean)) * column(scale) + column(net[f"{layer}.bias"])

    def __call__(self, net, x, training):
        h = rectify(self.normalized(net, F.conv2d(x, net["conv1.weight"], padding=1), "bn1", training))
        h = rectify(self.normalized(net, F.conv2d(h, net["conv2.weight"], stride=2, padding=1), "bn2", training))
        return F.linear(h.mean((2, 3)), net["linear.weight"], net["linear.bias"])


class Banked:
    """RoTTA with a teacher, NOTE's memory without."""

    def __init__(self, net, dtype, policy, teacher, share=0.2, keep=0.9, size=8):
        self.start = {k: v.to(dtype) for k, v in net.items()}
        self.net, self.moving = with_leaves(self.start, AFFINE, dtype)
        self.optimizer = torch.optim.Adam(self.moving.values(), lr=1e-3, foreach=False)
        self.bank, self.student = Bank(size, policy), Robust(self.start, share)
        self.taught = Robust(self.start, share) if teacher else None
        self.slow, self.keep = {k: v.clone() for k, v in self.start.items()}, keep

    def __call__(self, step, x):
        with torch.no_grad():
            answer = self.taught(self.slow, x, False) if self.taught else self.student(self.net, x, False)
            self.bank.offer(x, answer, philox.fold(philox.of_input(0, step * len(x)), 5))
            items = self.bank.items
            shown = torch.stack([items[k % len(items)]["image"] for k in range(self.bank.size)])
            target = self.taught(self.slow, shown, True) if self.taught else None
        z = self.student(self.net, shown.flip(3) if self.taught else shown, True)
        rows = -(target.softmax(1) * z.log_softmax(1)).sum(1) if self.taught else entropy(z)
        decay = torch.exp(-torch.tensor([i["age"] for i in items], dtype=x.dtype) / self.bank.size)
        loss = (decay / (1 + decay) * rows[: len(items)]).mean()
        gradients = torch.autograd.grad(loss, list(self.moving.values()))
        clear_of_noise(gradients)
        for p, g in zip(self.moving.values(), gradients):
            p.grad = g
        self.optimizer.step()
        for name, p in self.moving.items():
            self.slow[name] = self.keep * self.slow[name] + (1 - self.keep) * p.detach()
        out = {"logits": answer.detach(), "loss": loss.detach().reshape(1), "memory/bank_facts": self.bank.facts()}
        out |= {f"memory/buffer/{k}": v for k, v in self.student.buffers.items()}
        if self.taught:
            out |= {f"memory/teacher_buffer/{k}": v for k, v in self.taught.buffers.items()}
        return out | {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}


def teacher():
    """Another network of the same shape, which saw other images."""
    return network(np.random.default_rng(2015))


class DistillOnline:
    """Plain SGD on the affine towards the answers of another network (Hinton et al. 2015), within a trust region; what does
    not bring the student nearer is rolled back, and the source answers."""

    def __init__(self, net, dtype, rate=0.02, temperature=2.0, trust=0.15):
        self.start = {k: v.to(dtype) for k, v in net.items()}
        self.net, self.moving = with_leaves(self.start, AFFINE, dtype)
        self.teacher = {k: v.to(dtype) for k, v in teacher().items()}
        self.rate, self.t, self.trust = rate, temperature, trust

    def loss(self, x):
        z = forward(self.net, x, "batch")
        log_p, log_q = (forward(self.teacher, x, "batch") / self.t).log_softmax(1), (z / self.t).log_softmax(1)
        return z, self.t**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    def __call__(self, step, x):
        z, loss = self.loss(x)
        gradients = torch.autograd.grad(loss, list(self.moving.values()))
        with torch.no_grad():
            ends = [p - self.rate * g - self.start[n] for (n, p), g in zip(self.moving.items(), gradients)]
            length = torch.sqrt(sum((e**2).sum() for e in ends))
            assert abs(float(length) - self.trust) > 1e-4
            old = {n: p.detach().clone() for n, p in self.moving.items()}
            for (n, p), e in zip(self.moving.items(), ends):
                p.copy_(self.start[n] + e * min(1.0, self.trust / float(length)))
            after = self.loss(x)[1]
            assert abs(float(after - loss)) > 1e-3 * float(loss)
            if after > loss:
                z = forward(self.start, x, "source")
                for n, p in self.moving.items():
                    p.copy_(old[n])
        facts = {"outside": length > self.trust, "fell": after < loss}
        out = {"logits": z.detach(), "loss": loss.detach().reshape(1)} | {k: v.double().reshape(1) for k, v in facts.items()}
        return out | {f"affine.{n}": p.detach().clone() for n, p in self.moving.items()}


TEACHERS = {
    "distill_online": ({"rate": 0.02, "temperature": 2.0, "trust": 0.15, "teacher": "numpy's default_rng(2015)"}, DistillOnline),
    "cotta": ({"rate": 0.05, "keep": 0.9, "restore": 0.05, "views": 3}, Cotta),
    "rotta": ({"rate": 1e-3, "size": 8, "share": 0.2, "keep": 0.9}, lambda net, d: Banked(net, d, "timely", True)),
    "note": ({"rate": 1e-3, "size": 8, "share": 0.2}, lambda net, d: Banked(net, d, "reservoir", False)),
}
