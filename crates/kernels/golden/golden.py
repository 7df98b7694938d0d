"""The cases of one file: draws inputs, lets PyTorch compute and differentiate, collects what is stored."""

import zlib
from pathlib import Path

import numpy as np
import torch

import store


class Golden:
    """The cases of one file."""

    def __init__(self, name):
        self.name, self.tensors, self.metadata, self.n_cases = name, {}, {}, 0
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0):
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def distinct(self, *shape):
        """No two values closer than an eighth: maxima and orders have one answer, and a kink is far."""
        n = int(np.prod(shape))
        values = (np.arange(n) - n / 2 + 0.25) * 0.125
        return self.rng.permutation(values).reshape(shape).astype(np.float32)

    def ints(self, high, *shape):
        return self.rng.integers(0, high, shape).astype(np.int32)

    def case(self, inputs, compute, grad=True, op=None, **attrs):
        """Adds a case: `compute` takes the inputs as float64 (or int64, or bool) tensors and gives one output or a tuple."""
        prefix = f"case{self.n_cases}"
        torch_inputs = []
        for i, x in enumerate(inputs):
            self.tensors[f"{prefix}.in{i}"] = np.asarray(x)
            x = torch.from_numpy(np.array(x))
            if x.dtype == torch.float32:
                x = x.double().requires_grad_(grad)
            elif x.dtype == torch.int32:
                x = x.long()
            torch_inputs.append(x)
        outputs = compute(*torch_inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        upstream = []
        for j, y in enumerate(outputs):
            self.tensors[f"{prefix}.out{j}"] = y.detach()
            if grad and y.requires_grad:
                d = np.float32(self.rng.standard_normal(tuple(y.shape)))
                self.tensors[f"{prefix}.dout{j}"] = d
                upstream.append((y, torch.from_numpy(np.asarray(d)).double()))
        if upstream:
            wanted = [(i, x) for i, x in enumerate(torch_inputs) if x.requires_grad]
            ys, ds = zip(*upstream)
            gradients = torch.autograd.grad(ys, [x for _, x in wanted], ds, allow_unused=True)
            for (i, _), g in zip(wanted, gradients):
                if g is not None:
                    self.tensors[f"{prefix}.din{i}"] = g
        self.metadata[prefix] = {"op": op or self.name, **attrs}
        self.n_cases += 1

    def write(self, folder):
        path = Path(folder) / f"{self.name}.safetensors"
        store.write(path, self.tensors, {**self.metadata, "n_cases": self.n_cases})
        return path
