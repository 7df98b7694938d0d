"""Writes golden cases as safetensors: names, types and metadata as README.md lays them down.

The same inputs give the same bytes: the library stores metadata in the order of a hash map, so the header is sorted here.
"""

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import torch


def to_stored(value):
    """An array in one of the three stored types: f32, i32 or bool."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    # Not ascontiguousarray: it gives a scalar an axis.
    value = np.asarray(value, order="C")
    if value.dtype == np.bool_:
        return value
    if np.issubdtype(value.dtype, np.integer):
        assert value.size == 0 or np.abs(value).max() < 2**31
        return value.astype(np.int32)
    return value.astype(np.float32)


def write(path, tensors, metadata):
    """Writes `tensors` (name to array) and `metadata` (name to anything JSON can say) to `path`."""
    tensors = {name: to_stored(value) for name, value in tensors.items()}
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    metadata["made_with"] = f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}"
    raw = safetensors.numpy.save(tensors, metadata=metadata)
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    # Data begins at a multiple of eight; the format pads the header with spaces.
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def read(path):
    """The tensors and the metadata of a file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def difference(old, new):
    """What differs between two files: a sentence, or None. Floats may differ by the last bits, as libraries of other processors do."""
    (old_tensors, old_meta), (new_tensors, new_meta) = read(old), read(new)
    old_meta.pop("made_with"), new_meta.pop("made_with")
    if old_meta != new_meta:
        return "other cases or attributes"
    if old_tensors.keys() != new_tensors.keys():
        return "other tensors"
    for name, a in old_tensors.items():
        b = new_tensors[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {a.dtype}{a.shape}, now {b.dtype}{b.shape}"
        if a.dtype == np.float32:
            scale = np.max(np.abs(a), initial=0.0, where=np.isfinite(a))
            same = np.allclose(a, b, rtol=1e-6, atol=1e-7 * scale, equal_nan=True)
        else:
            same = np.array_equal(a, b)
        if not same:
            return f"{name}: other values"
    return None
