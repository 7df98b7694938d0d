#!/usr/bin/env python3
"""Of each shader in the output of `compilers --text` on NVIDIA's driver by Mesa: the loop with the most fused multiplications, how many
instructions it has, and how many of them are those. What else is in it is what a product pays beside its arithmetic.

    MESA_AS=nvidia ci/newest_mesa FOLDER benches/compilers/target/release/compilers --text matmul conv2d | benches/compilers/loops.py
"""

import collections
import re
import sys

FUSED = ("ffma", "hfma", "hmma")


def blocks_of(text):
    """Predecessors and instructions of each basic block."""
    blocks, now = {}, None
    for line in text.splitlines():
        if head := re.match(r"block\S* (\d+) .*?\[([\d, ]*)\]", line):
            now = blocks[int(head[1])] = ([int(p) for p in re.findall(r"\d+", head[2])], [])
        elif line.startswith("}"):
            now = None
        elif now and (code := line.split("//")[0].strip()):
            words = re.sub(r"^@!?u?p\d+ +", "", code.split(" = ")[-1].strip()).split()
            now[1].append(words[0].split(".")[0])
    return blocks


def loop_of(blocks, first, last):
    """All blocks of the loop that goes back from `last` to `first`."""
    seen, rest = {first}, [last]
    while rest:
        if (block := rest.pop()) not in seen:
            seen.add(block)
            rest += blocks[block][0]
    return seen


def main():
    print(f"{'shader':40} {'loop':>5} {'fused':>5} {'share':>6}  blocks; other instructions")
    for part in re.split(r"^(?=\S[^\n]*: threads of a subgroup )", sys.stdin.read(), flags=re.M)[1:]:
        name, code = part.split(":")[0], part.split("---- NAK assembly")
        if len(code) < 2:
            sys.exit(f"{name}: no machine code of NVIDIA's; give `compilers` --text and MESA_AS=nvidia")
        blocks = blocks_of(code[1])
        loops = [loop_of(blocks, b, p) for b, (before, _) in blocks.items() for p in before if p >= b]
        counts = [(collections.Counter(op for b in loop for op in blocks[b][1]), len(loop)) for loop in loops]
        if not counts:
            continue
        # Of loops inside each other the inner one.
        count, n = max(counts, key=lambda c: (sum(c[0][op] for op in FUSED), -c[0].total()))
        fused = sum(count[op] for op in FUSED)
        others = ", ".join(f"{op} {k}" for op, k in count.most_common(9) if op not in FUSED)
        print(f"{name:40} {count.total():5} {fused:5} {fused / count.total():6.2f}  {n}; {others}")


if __name__ == "__main__":
    main()
