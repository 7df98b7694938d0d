#!/usr/bin/env python3
"""Runs Acclimate and a peer in turn on the same work and prints ratios.

First the results of both sides are compared with a reference in float64; then runs alternate, and a row's number is the
median over all of them. Raw times go to benches/runs/<date>-<machine>/.

    cargo build --release -p acclimate-benches
    benches/peers/compare.py --peer torch [--rounds 9] [--rows mlp_step,cnn_step] [--no-record]
    benches/peers/compare.py --peer burn --device software --machine lavapipe
"""

import argparse
import array
import atexit
import datetime
import importlib.util
import json
import math
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peer", choices=["torch", "burn"], default="torch")
    p.add_argument("--device", default="cpu", help="as ACCLIMATE_DEVICE: cpu, gpu, software; the peer takes the same")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--calls", type=int, default=0, help="calls a turn; 0: about 60 ms of them")
    p.add_argument("--rows", default="")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                   help="cpu: processor time, which others on the machine disturb least; sensible with --threads 1")
    p.add_argument("--binary", default=str(ROOT / "target/release/speed"))
    p.add_argument("--peer-binary", default=str(HERE / "burn/target/release/peer-burn"))
    p.add_argument("--machine", default="", help="the end of the folder's name in benches/runs/; default: the processor")
    p.add_argument("--no-check", action="store_true", help="do not compare results (for profiling only)")
    p.add_argument("--no-record", action="store_true", help="do not write benches/runs/")
    return p.parse_args()


# The median is what a row is judged by; on a machine that others use too, the fastest tenth says more.
QUANTILES = [("median", statistics.median), ("fastest tenth", lambda t: t[len(t) // 10])]

# Relative to the largest value: sums of a thousand products in f32, a hundred layers of rounding deep at most.
TOLERANCE = 2e-4


class Served:
    """A program that answers lines, as `speed serve` does."""

    def __init__(self, command, args):
        env = dict(os.environ, RAYON_NUM_THREADS=str(args.threads), ACCLIMATE_DEVICE=args.device)
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)

    def ask(self, line):
        # Stopped while the other side runs: burn's threads poll when there is nothing to do.
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"`{line}` ended the bench")
        self.process.send_signal(signal.SIGSTOP)
        return answer.strip()

    def times(self, name, count, clock):
        """Milliseconds of so many calls."""
        return [float(t.split(":")[clock == "cpu"]) for t in self.ask(f"{name} {count}").split()]

    def result(self, name, steps, kind="dump"):
        """The result after some steps; `oracle` as a kind: in float64, by the oracle."""
        with tempfile.NamedTemporaryFile() as f:
            self.ask(f"{kind} {name} {steps} {f.name}")
            values = array.array("d" if kind == "oracle" else "f")
            values.frombytes(f.read())
            return values


def peer_of(args, ours):
    """The module benches/peers/<peer>/peer.py made to run."""
    spec = importlib.util.spec_from_file_location("peer", HERE / args.peer / "peer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Peer(args, ours, Served)


def check(ours, peer, name):
    """The largest difference of each side from the peer's reference, after one and three steps."""
    worst = {}
    for steps in (1, 3):
        expected = peer.reference(name, steps)
        scale = max(max(abs(x) for x in expected), 1e-30)
        for side, got in (("ours", ours.result(name, steps)), (peer.name, peer.result(name, steps))):
            if len(got) != len(expected):
                sys.exit(f"{name}: {side} has {len(got)} values, not {len(expected)}")
            # `not <=` and not `>`: a NaN is a difference.
            wrong = max((abs(g - e) if g == g else math.inf) for g, e in zip(got, expected)) / scale
            if not wrong <= TOLERANCE:
                sys.exit(f"{name}: {side} differs from the reference by {wrong:.1e} after {steps} steps")
            worst[side] = max(worst.get(side, 0.0), wrong)
    return worst


def main():
    args = arguments()
    ours = Served([args.binary, "serve"], args)
    peer = peer_of(args, ours)
    names = args.rows.split(",") if args.rows else peer.rows
    print(f"{'':16} {f'median: ours, {peer.name}, ratio':>29}  {'fastest tenth: the same':>27}   differences")
    rows = {}
    for name in names:
        difference = None if args.no_check else check(ours, peer, name)
        # Warm-up of both, and how many calls make a turn.
        guess = max(min(side.times(name, 5, args.clock)) for side in (peer, ours))
        calls = args.calls or max(3, min(500, int(60 / guess)))
        a, b = [], []
        for r in range(args.rounds):
            for times, side in [(a, ours), (b, peer)][:: 1 if r % 2 == 0 else -1]:
                # Threads of the one that ran before go to sleep first.
                time.sleep(0.03)
                times.append(side.times(name, calls, args.clock))
        rows[name] = {"difference": difference, "ours_runs": a, f"{peer.name}_runs": b}
        for what, of in QUANTILES:
            mine, other = (of(sorted(t for turn in side for t in turn)) for side in (a, b))
            rows[name][what] = {"ours_ms": mine, f"{peer.name}_ms": other, "ratio": mine / other}
        cells = ["{:9.3f} {:9.3f} {:6.2f}".format(*rows[name][q].values()) for q, _ in QUANTILES]
        shown = " ".join(f"{d:.0e}" for d in (difference or {}).values())
        print(f"{name:16} {'   '.join(cells)}   {shown}", flush=True)
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
        record(args, ours, peer, rows)


# Options that name a place on one machine: they do not go into the record.
PLACES = ("--binary", "--peer-binary")


def command():
    words = [w for i, w in enumerate(sys.argv[1:]) if not w.startswith(PLACES) and sys.argv[i] not in PLACES]
    return " ".join(["benches/peers/compare.py", *words])


def record(args, ours, peer, rows):
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    words = re.sub(r"\(.*?\)|[^a-z0-9]+", " ", cpu.lower()).split()
    machine = args.machine or "-".join(words) + f"-{args.threads}-threads"
    folder = ROOT / "benches/runs" / f"{datetime.date.today()}-{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    facts = {
        "command": command(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "cpu": cpu,
        "device": ours.ask("device"),
        "threads": args.threads,
        "clock": args.clock,
        **peer.facts(),
        "rows": rows,
    }
    file = folder / f"{peer.file}.json"
    file.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"raw data: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
