#!/usr/bin/env python3
"""Make the four files of data/fashion8k from the Debian package dataset-fashion-mnist.

    apt-get install dataset-fashion-mnist
    data/make_fashion8k.py                 # writes data/fashion8k/*.gz
    data/make_fashion8k.py --check         # writes nothing; compares with what is there

Of each of the ten classes the first 800 training and the first 200 test images are kept, in their
original, mixed order. Only the standard library is needed.
"""

import argparse
import gzip
import struct
import sys
from pathlib import Path

CLASSES = 10
KEEP_PER_CLASS = {"train": 800, "t10k": 200}
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049  # the two kinds of idx file: u8 in three axes, u8 in one


def read_idx(path, magic, n_axes):
    """The sizes and the values of an idx file: big-endian header, then one byte a value."""
    raw = gzip.decompress(path.read_bytes())
    found, *sizes = struct.unpack_from(f">{1 + n_axes}I", raw)
    values = raw[4 * (1 + n_axes) :]
    expected = 1
    for size in sizes:
        expected *= size
    if found != magic or len(values) != expected:
        sys.exit(f"{path}: expected magic {magic} and {expected} values, found {found} and {len(values)}")
    return sizes, values


def first_of_each_class(labels, keep):
    """Positions of the first `keep` examples of each class, in file order."""
    seen = [0] * CLASSES
    chosen = []
    for position, label in enumerate(labels):
        if seen[label] < keep:
            seen[label] += 1
            chosen.append(position)
    if min(seen) < keep:
        sys.exit(f"a class has only {min(seen)} examples, {keep} are needed")
    return chosen


def subset(source, part):
    """The two files of one part, as a map from name to uncompressed bytes."""
    images_name, labels_name = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
    (_, height, width), images = read_idx(source / images_name, IMAGES_MAGIC, 3)
    _, labels = read_idx(source / labels_name, LABELS_MAGIC, 1)
    chosen = first_of_each_class(labels, KEEP_PER_CLASS[part])
    size = height * width
    return {
        f"fashion8k-{images_name}": struct.pack(">4I", IMAGES_MAGIC, len(chosen), height, width)
        + b"".join(images[i * size : (i + 1) * size] for i in chosen),
        f"fashion8k-{labels_name}": struct.pack(">2I", LABELS_MAGIC, len(chosen)) + bytes(labels[i] for i in chosen),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "fashion8k")
    parser.add_argument("--check", action="store_true", help="compare the uncompressed bytes, write nothing")
    arguments = parser.parse_args()

    differs = False
    for part in KEEP_PER_CLASS:
        for name, raw in subset(arguments.source, part).items():
            path = arguments.out / name
            if arguments.check:
                same = gzip.decompress(path.read_bytes()) == raw
                differs |= not same
                print(f"{name}: {'same' if same else 'DIFFERENT'}, {len(raw)} bytes uncompressed")
            else:
                # No name and no time in the header, so that the same input gives the same file.
                # (The compressed bytes may still differ between versions of zlib.)
                path.write_bytes(gzip.compress(raw, compresslevel=9, mtime=0))
                print(f"{path}: {len(raw)} bytes, {path.stat().st_size} compressed")
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
