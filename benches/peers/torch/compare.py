#!/usr/bin/env python3
"""Runs Acclimate's CPU engine and PyTorch in turn on the same work and threads, and prints ratios.

First every result of Acclimate is compared with PyTorch's in float64; then runs alternate, and a row's number is the
median over all of them. Raw times go to benches/runs/<date>-<machine>/torch.json.

    cargo build --release -p acclimate-benches
    python benches/peers/torch/compare.py [--rounds 9] [--rows mlp_step,cnn_step] [--no-record]
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--calls", type=int, default=0, help="calls a turn; 0: about 60 ms of them")
    p.add_argument("--rows", default="")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                   help="cpu: processor time, which others on the machine disturb least; sensible with --threads 1")
    p.add_argument("--binary", default=str(ROOT / "target/release/speed"))
    p.add_argument("--no-check", action="store_true", help="do not compare results (for profiling only)")
    p.add_argument("--no-record", action="store_true", help="do not write benches/runs/")
    return p.parse_args()


# The median is what a row is judged by; on a machine that others use too, the fastest tenth says more.
QUANTILES = [("median", statistics.median), ("fastest tenth", lambda t: t[len(t) // 10])]


class Ours:
    def __init__(self, args):
        env = dict(os.environ, RAYON_NUM_THREADS=str(args.threads), ACCLIMATE_DEVICE="cpu")
        self.process = subprocess.Popen(
            [args.binary, "serve"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"`{line}` ended the bench")
        return answer.split()

    def times(self, name, count, clock):
        return [float(t.split(":")[clock == "cpu"]) for t in self.ask(f"{name} {count}")]


def check(ours, name, make, torch, np):
    """Acclimate's results after one and three steps against PyTorch's in float64."""
    worst = 0.0
    reference = make(torch.float64)
    expected = [reference().numpy().copy() for _ in range(3)]
    for steps in (1, 3):
        with tempfile.NamedTemporaryFile() as f:
            ours.ask(f"dump {name} {steps} {f.name}")
            got = np.fromfile(f.name, dtype=np.float32).astype(np.float64)
        e = expected[steps - 1].reshape(-1)
        if got.shape != e.shape:
            sys.exit(f"{name}: {got.shape} values, PyTorch has {e.shape}")
        worst = max(worst, float(np.abs(got - e).max() / max(np.abs(e).max(), 1e-30)))
    # Relative to the largest value: sums of a thousand products in f32, a hundred layers of rounding deep at most.
    if not worst < 2e-4:
        sys.exit(f"{name}: differs from PyTorch in float64 by {worst:.1e}")
    return worst


def main():
    args = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    import numpy as np
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import work

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    names = args.rows.split(",") if args.rows else list(work.ROWS)
    ours = Ours(args)
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    print(f"{'':16} {'median: ours, torch, ratio':>29}  {'fastest tenth: the same':>27}   difference")
    rows = {}
    for name in names:
        make = work.ROWS[name]
        difference = None if args.no_check else check(ours, name, make, torch, np)
        call = make(torch.float32)

        def theirs(count):
            times = []
            for _ in range(count):
                start = clock()
                result = call()
                times.append((clock() - start) * 1e3)
                del result
            return times

        # Warm-up of both, and how many calls make a turn.
        guess = max(min(theirs(5)), min(ours.times(name, 5, args.clock)))
        calls = args.calls or max(3, min(500, int(60 / guess)))
        a, b = [], []
        for r in range(args.rounds):
            order = [(a, lambda: ours.times(name, calls, args.clock)), (b, lambda: theirs(calls))]
            for times, run in order if r % 2 == 0 else order[::-1]:
                # Threads of the one that ran before go to sleep first.
                time.sleep(0.03)
                times.append(run())
        rows[name] = {"difference": difference, "ours_runs": a, "torch_runs": b}
        for what, of in QUANTILES:
            mine, other = (of(sorted(t for turn in side for t in turn)) for side in (a, b))
            rows[name][what] = {"ours_ms": mine, "torch_ms": other, "ratio": mine / other}
        cells = [f"{r['ours_ms']:9.3f} {r['torch_ms']:9.3f} {r['ratio']:6.2f}" for r in (rows[name][q] for q, _ in QUANTILES)]
        shown = "" if difference is None else f"   {difference:.0e}"
        print(f"{name:16} {'   '.join(cells)}{shown}", flush=True)
    for what, _ in QUANTILES:
        if len(rows) > 1:
            ratios = [r[what]["ratio"] for n, r in rows.items() if n != "slots_32"]
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"{what}: geometric mean of the ratios, without slots_32: {mean:.2f}")
        if {"slots_32", "tent_step", "cnn_forward"} <= rows.keys():
            ours_ms = {n: rows[n][what]["ours_ms"] for n in rows}
            one = ours_ms["tent_step"] + ours_ms["cnn_forward"]
            print(f"{what}: slots_32 / (tent_step + cnn_forward), ours: {ours_ms['slots_32'] / one:.2f}")
    if not args.no_record:
        record(args, rows, torch)


def record(args, rows, torch):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    machine = "-".join(cpu.lower().split()) + f"-{args.threads}-threads"
    folder = ROOT / "benches/runs" / f"{datetime.date.today()}-{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    facts = {
        "command": "benches/peers/torch/compare.py " + " ".join(sys.argv[1:]),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "cpu": cpu,
        "threads": args.threads,
        "clock": args.clock,
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "rows": rows,
    }
    (folder / f"torch-{args.clock}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"raw data: {(folder / 'torch.json').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
