"""CoTTA, step by step, with plain SGD: see README.md."""

import philox
import torch
import torch.nn.functional as F
from network import forward, with_leaves

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


TEACHERS = {"cotta": ({"rate": 0.05, "keep": 0.9, "restore": 0.05, "views": 3}, Cotta)}
