"""burn as a peer: a program of its own, with Acclimate's float64 oracle as the reference for both."""

import os
import sys


class Peer:
    name = "burn"
    file = "burn"
    rows = ["matmul_512", "matmul_1024", "relu_chain_4m", "sum_4m", "mlp_step", "cnn_step", "cnn_forward", "tent_step"]

    def __init__(self, args, ours, served):
        if args.device == "cpu":
            sys.exit("burn is compared on the wgpu engine: --device gpu or --device software")
        if not os.path.exists(args.peer_binary):
            sys.exit(f"no {args.peer_binary}: run `cargo build --release --locked` in benches/peers/burn, or see --peer-binary")
        program = served([args.peer_binary], args)
        self.times, self.result = program.times, program.result
        self.facts = lambda: {"burn": program.ask("facts")}
        self.reference = lambda name, steps: ours.result(name, steps, "oracle")
