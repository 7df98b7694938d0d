"""PyTorch as a peer: in this process, with its own float64 as the reference."""

import os
import pathlib
import sys
import time


class Peer:
    name = "torch"

    def __init__(self, args, ours, served):
        if args.device != "cpu":
            sys.exit("PyTorch is compared on the CPU: --device cpu")
        os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
        import torch

        sys.path.insert(0, str(pathlib.Path(__file__).parent))
        import work

        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        self.torch = torch
        self.rows = list(work.ROWS)
        self.file = f"torch-{args.clock}"
        self.calls, self.all = {}, work.ROWS | work.LARGE

    def evaluate(self, name, steps, dtype):
        call = self.all[name](dtype)
        for _ in range(steps):
            result = call()
        return result.reshape(-1).tolist()

    def reference(self, name, steps):
        return self.evaluate(name, steps, self.torch.float64)

    def result(self, name, steps):
        return self.evaluate(name, steps, self.torch.float32)

    def times(self, name, count, clock):
        if name not in self.calls:
            self.calls[name] = self.all[name](self.torch.float32)
        call = self.calls[name]
        now = time.perf_counter if clock == "wall" else time.process_time
        times = []
        for _ in range(count):
            start = now()
            result = call()
            times.append((now() - start) * 1e3)
            del result
        return times

    def facts(self):
        return {"torch": self.torch.__version__, "torch_capability": self.torch.backends.cpu.get_cpu_capability()}
