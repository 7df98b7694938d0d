"""Golden vectors of the ops, made with PyTorch: `python make.py` writes them, `python make.py --check` compares.

Inputs are f32. Results and gradients are computed in float64 from exactly these inputs and rounded to f32 once.
The layout of the files is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import torch

import cases_attention
import cases_elementwise
import cases_index
import cases_loss
import cases_norm
import cases_products
import cases_reduce
import store
from golden import Golden

HERE = Path(__file__).resolve().parent
FAMILIES = (cases_products, cases_attention, cases_reduce, cases_norm, cases_index, cases_elementwise, cases_loss)
# The file's name and what fills it.
OPS = {name: fill for family in FAMILIES for name, fill in family.CASES.items()}


def main():
    check = sys.argv[1:] == ["--check"]
    # Threads change the order of sums, and with it the last bit.
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, fill in sorted(OPS.items()):
            golden = Golden(name)
            fill(golden)
            path = golden.write(scratch if check else HERE)
            assert path.stat().st_size < 200_000, f"{name}: {path.stat().st_size} bytes"
            if check and (why := store.difference(HERE / path.name, path)):
                print(f"{name}: {why}")
                failed = True
            else:
                print(f"{name}: {golden.n_cases} cases, {path.stat().st_size} bytes")
    sys.exit(failed)


if __name__ == "__main__":
    main()
