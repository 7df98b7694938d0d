"""The rows of benches/src/rows.rs in PyTorch: the same numbers in, the same result out."""

import numpy as np
import torch
import torch.nn.functional as F


def values(n, salt):
    """Reproducible numbers in [-0.5, 0.5), as `values` in benches/src/row.rs."""
    with np.errstate(over="ignore"):
        h = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1)
        h += np.uint32((salt * 0x85EBCA77) & 0xFFFFFFFF)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(16777216.0) - np.float32(0.5)


def tensor(dims, salt, dtype):
    return torch.from_numpy(values(int(np.prod(dims)), salt).reshape(dims)).to(dtype)


def fill(names_and_params, dtype):
    """The values of `params` in rows.rs, in the same order."""
    fan_in = 1
    with torch.no_grad():
        for salt, (name, p) in enumerate(names_and_params, start=100):
            is_norm = "bn" in name
            if p.dim() > 1:
                fan_in = int(np.prod(p.shape[1:]))
            if is_norm:
                scale, shift = 0.5, 1.0 if name.endswith("weight") else 0.0
            else:
                scale, shift = np.float32(2.0) / np.sqrt(np.float32(fan_in)), 0.0
            v = values(p.numel(), salt) * np.float32(scale) + np.float32(shift)
            p.copy_(torch.from_numpy(v.reshape(tuple(p.shape))).to(dtype))


def labels(n):
    return torch.tensor([(i * 7 + 3) % 10 for i in range(n)])


class Cnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        widths = [3, 32, 64, 128]
        for i in range(1, 4):
            stride = 1 if i == 1 else 2
            setattr(self, f"conv{i}", torch.nn.Conv2d(widths[i - 1], widths[i], 3, stride, 1, bias=False))
            setattr(self, f"bn{i}", torch.nn.BatchNorm2d(widths[i]))
        self.fc = torch.nn.Linear(128, 10)

    def forward(self, x):
        for i in range(1, 4):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return self.fc(x.mean((2, 3)))


def cnn(dtype):
    net = Cnn().to(dtype)
    fill(net.named_parameters(), dtype)
    return net


def images(dtype):
    return tensor((32, 3, 32, 32), 1, dtype)


def entropy(logits):
    logp = logits.log_softmax(1)
    return -(logp.exp() * logp).sum(1).mean()


def matmul(n):
    def make(dtype):
        a, b = tensor((n, n), 1, dtype), tensor((n, n), 2, dtype)
        return lambda: a @ b

    return make


def relu_chain(dtype):
    x = tensor((1 << 22,), 1, dtype)
    return lambda: torch.relu(2 * x + 1)


def total(dtype):
    x = tensor((1 << 22,), 1, dtype)
    return lambda: x.sum()


# The fused forms are the fastest that PyTorch has.
def adam(params):
    return torch.optim.Adam(params, lr=1e-3, fused=True)


def sgd(params):
    return torch.optim.SGD(params, lr=2.5e-4, momentum=0.9, fused=True)


def training(net, x, y):
    optimizer = adam(net.parameters())

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def mlp_step(dtype):
    net = torch.nn.Sequential()
    for i, (a, b) in enumerate([(784, 512), (512, 512), (512, 10)], start=1):
        net.add_module(f"fc{i}", torch.nn.Linear(a, b))
        if i < 3:
            net.add_module(f"relu{i}", torch.nn.ReLU())
    net = net.to(dtype)
    fill(net.named_parameters(), dtype)
    return training(net, tensor((128, 784), 1, dtype), labels(128))


def cnn_step(dtype):
    return training(cnn(dtype).train(), images(dtype), labels(32))


def answering(net, x):
    net.eval()

    def forward():
        with torch.inference_mode():
            return net(x)

    return forward


def tent(net, x, optimizer):
    affine = []
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
            affine += [module.weight, module.bias]
    net.requires_grad_(False)
    for p in affine:
        p.requires_grad_(True)
    optimizer = optimizer(affine)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = net(x)
        entropy(logits).backward()
        optimizer.step()
        return logits.detach()

    return step


class Block(torch.nn.Module):
    """Expansion, one kernel for each channel, projection, each with a normalization."""

    def __init__(self, side, inputs, outputs, kernel, stride, factor):
        super().__init__()
        wide = inputs * factor
        self.expands = factor > 1
        if self.expands:
            self.expand, self.bn0 = Same(side, inputs, wide, 1), norm(wide)
        self.depthwise, self.bn1 = Same(side, wide, wide, kernel, stride, wide), norm(wide)
        self.project, self.bn2 = Same(self.depthwise.side, wide, outputs, 1), norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu6(self.bn0(self.expand(x))) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise(y)))
        y = self.bn2(self.project(y))
        return x + y if self.adds else y


class Same(torch.nn.Conv2d):
    """A convolution with TensorFlow's SAME padding; `side` becomes that of the output."""

    def __init__(self, side, inputs, outputs, kernel, stride=1, groups=1):
        out = -(-side // stride)
        around = max((out - 1) * stride + kernel - side, 0)
        low, high = around // 2, around - around // 2
        super().__init__(inputs, outputs, kernel, stride, low if low == high else 0, groups=groups, bias=False)
        self.side = out
        self.uneven = (low, high, low, high) if low != high else None

    def forward(self, x):
        return super().forward(F.pad(x, self.uneven) if self.uneven else x)


def norm(channels):
    return torch.nn.BatchNorm2d(channels, eps=1e-3)


class EfficientNetLite0(torch.nn.Module):
    """As crates/train/src/nn/zoo/efficientnet_lite.rs."""

    STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
              (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]

    def __init__(self):
        super().__init__()
        self.stem, self.bn0 = Same(224, 3, 32, 3, 2), norm(32)
        blocks, inputs, side = [], 32, self.stem.side
        for count, kernel, stride, factor, outputs in self.STAGES:
            for i in range(count):
                blocks.append(Block(side, inputs, outputs, kernel, stride if i == 0 else 1, factor))
                inputs, side = outputs, blocks[-1].project.side
        self.blocks = torch.nn.Sequential(*blocks)
        self.head, self.bn1 = Same(side, inputs, 1280, 1), norm(1280)
        self.fc = torch.nn.Linear(1280, 1000)

    def forward(self, x):
        x = (x - 127 / 255) / (128 / 255)
        x = F.relu6(self.bn0(self.stem(x)))
        x = F.relu6(self.bn1(self.head(self.blocks(x))))
        return self.fc(x.mean((2, 3)))


def mobile(dtype):
    net = EfficientNetLite0().to(dtype)
    fill(net.named_parameters(), dtype)
    return net, tensor((16, 3, 224, 224), 1, dtype) + 0.5


def slots_32(dtype):
    params = {name: p.detach() for name, p in cnn(dtype).named_parameters()}
    affine = {name: p for name, p in params.items() if name.startswith("bn")}
    x = images(dtype)

    def net(affine, x):
        x = x.unsqueeze(0)
        for i in range(1, 4):
            x = F.conv2d(x, params[f"conv{i}.weight"], None, 1 if i == 1 else 2, 1)
            x = F.relu(F.batch_norm(x, None, None, affine[f"bn{i}.weight"], affine[f"bn{i}.bias"], True, 0.1, 1e-5))
        return F.linear(x.mean((2, 3)), params["fc.weight"], params["fc.bias"])

    def one(x):
        grads = torch.func.grad(lambda affine: entropy(net(affine, x)))(affine)
        # The first step of Adam from moments of zero.
        moved = {}
        for name, g in grads.items():
            m, v = 0.1 * g, 0.001 * g * g
            moved[name] = affine[name] - 1e-3 / 0.1 * m / (v.sqrt() / (0.001**0.5) + 1e-8)
        return net(moved, x).squeeze(0)

    batched = torch.func.vmap(one)
    return lambda: batched(x).unsqueeze(1)


def depthwise(dtype):
    x, w = tensor((32, 96, 28, 28), 1, dtype), tensor((96, 1, 3, 3), 2, dtype)
    x.requires_grad_(True)
    w.requires_grad_(True)

    def step():
        y = F.conv2d(x, w, None, 1, 1, groups=96)
        dx, dw = torch.autograd.grad((y * y).mul(0.5).sum(), (x, w))
        return (dw + (dx * x).sum()).detach()

    return step


RESNET = [(64, 64, 56, 3, 1), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1), (512, 512, 7, 3, 1), (64, 128, 56, 3, 2),
          (256, 64, 56, 1, 1)]


def resnet(what):
    """All convolutions of RESNET over 32 images; a corner of each result."""

    def make(dtype):
        work = []
        for salt, (c_in, c_out, side, k, stride) in enumerate(RESNET, start=1):
            out = side // stride
            x, w, y = (32, c_in, side, side), (c_out, c_in, k, k), (32, c_out, out, out)
            first, second = {"forward": (x, w), "input_grad": (y, w), "weight_grad": (x, y)}[what]
            a, b = tensor(first, 2 * salt, dtype), tensor(second, 2 * salt + 1, dtype)
            work.append((a, b, x, w, stride, k // 2))

        def one(a, b, x, w, stride, padding):
            if what == "forward":
                return F.conv2d(a, b, None, stride, padding)
            if what == "input_grad":
                return torch.nn.grad.conv2d_input(x, b, a, stride, padding)
            return torch.nn.grad.conv2d_weight(a, w, b, stride, padding)

        def run():
            with torch.no_grad():
                return torch.cat([one(*inputs)[:7, :7, :1, :1] for inputs in work])

        return run

    return make


ROWS = {
    "matmul_512": matmul(512),
    "matmul_1024": matmul(1024),
    "relu_chain_4m": relu_chain,
    "sum_4m": total,
    "mlp_step": mlp_step,
    "cnn_step": cnn_step,
    "cnn_forward": lambda dtype: answering(cnn(dtype), images(dtype)),
    "tent_step": lambda dtype: tent(cnn(dtype), images(dtype), adam),
    "slots_32": slots_32,
    "depthwise": depthwise,
}

# Rows that run only when somebody names them.
LARGE = {
    "resnet_forward": resnet("forward"),
    "resnet_input_grad": resnet("input_grad"),
    "resnet_weight_grad": resnet("weight_grad"),
    "mobile_forward": lambda dtype: answering(*mobile(dtype)),
    "mobile_tent": lambda dtype: tent(*mobile(dtype), sgd),
}
