"""The random numbers of a session: Philox4x32-10 (Salmon et al. 2011) and what is drawn from its words."""

import numpy as np

M32 = 0xFFFFFFFF


def block(key, counter):
    """Four words for one counter."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (p1 >> 32) ^ b ^ k0, p1 & M32, (p0 >> 32) ^ d ^ k1, p0 & M32
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return a, b, c, d


def of_input(seed, index):
    """The key of an input of a session."""
    return block((seed & M32, seed >> 32), (index & M32, index >> 32, 0x1A7E57ED, 0))[:2]


def fold(key, number):
    return tuple(block(key, (number, 0xF01D + w, 0, 0))[0] for w in (0, 1))


def split(key, n):
    return [tuple(block(key, (i, 0x5B17 + w, 0, 0))[0] for w in (0, 1)) for i in range(n)]


def uniform(key, n, stream=0):
    """The upper 24 bits, in [0, 1)."""
    return np.array([block(key, (i, stream, 0, 0))[0] >> 8 for i in range(n)]) / 2.0**24


def permutation(key, n):
    first = np.argsort(uniform(key, n), kind="stable")
    return first[np.argsort(uniform(key, n, 1), kind="stable")]


def normal(key, n):
    """Box and Muller 1958 from the upper 23 bits for the radius, the upper 24 for the angle."""
    radius = (np.array([block(key, (i, 0, 0, 0))[0] >> 9 for i in range(n)]) + 0.5) * 2.0**-23
    return np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * (uniform(key, n, 1) - 0.5))


def stream_of_name(seed, *names):
    """An endless stream of the host's uniform numbers for a path of names; a name's key folds in its length and its bytes."""
    key = (seed & M32, seed >> 32)
    for name in names:
        for number in (len(name.encode()), *name.encode()):
            key = block(key, (number, 0, 0, M32))[:2]
    draw = 0
    while True:
        yield from ((word >> 8) / 2.0**24 for word in block(key, (0, draw, 0, 0)))
        draw += 1
