"""The library's random numbers, written a second time: Philox4x32-10 streams and what is drawn from them."""

import math

import numpy as np

MASK = 0xFFFFFFFF


class Philox:
    """Salmon et al. 2011. A key names a family of streams."""

    def __init__(self, seed):
        self.key = (seed & MASK, seed >> 32)

    def block(self, counter):
        a, b, c, d = counter
        k0, k1 = self.key
        for _ in range(10):
            p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
            a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
            k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
        return a, b, c, d

    def fold(self, data):
        k0, k1, *_ = self.block((data, 0, 0, MASK))
        return Philox(k0 | k1 << 32)

    def fold_name(self, name):
        key = self.fold(len(name))
        for byte in name.encode():
            key = key.fold(byte)
        return key

    def stream(self, item):
        return Stream(self, item)


class Stream:
    """The draws of one item, in order."""

    def __init__(self, philox, item):
        self.words = self.all_words(philox, item)
        self.spare = None

    @staticmethod
    def all_words(philox, item):
        draw = 0
        while True:
            yield from philox.block((item & MASK, draw & MASK, item >> 32, draw >> 32))
            draw += 1

    def bits(self):
        return next(self.words)

    def uniform(self):
        return (self.bits() >> 8) * 2.0**-24

    def uniform_f64(self):
        high, low = self.bits() >> 5, self.bits() >> 6
        return ((high << 26) | low) * 2.0**-53

    def normal(self):
        """Box and Muller: the cosine first, then the sine."""
        if self.spare is not None:
            spare, self.spare = self.spare, None
            return spare
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        angle = 2 * math.pi * self.uniform()
        self.spare = radius * math.sin(angle)
        return radius * math.cos(angle)

    def normals(self, like):
        """One for each value of [h, w, c], channel after channel."""
        h, w, c = like.shape
        return np.array([self.normal() for _ in range(like.size)]).reshape(c, h, w).transpose(1, 2, 0)

    def below(self, n):
        """Lemire 2019: the high half of a 128-bit product, drawn again where the low half is among the surplus."""
        surplus = 2**64 % n
        while True:
            product = (self.bits() << 32 | self.bits()) * n
            if product & (2**64 - 1) >= surplus:
                return product >> 64

    def poisson(self, mean):
        if mean <= 0:
            return 0.0
        if mean < 10:
            target, count, term = self.uniform_f64(), 0, math.exp(-mean)
            total = term
            while target >= total and count < 200:
                count += 1
                term *= mean / count
                total += term
            return float(count)
        # Hoermann 1993, PTRS.
        b = 0.931 + 2.53 * math.sqrt(mean)
        a = -0.059 + 0.02483 * b
        inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
        squeeze = 0.9277 - 3.6224 / (b - 2)
        while True:
            u = self.uniform_f64() - 0.5
            v = 1 - self.uniform_f64()
            us = 0.5 - abs(u)
            count = math.floor((2 * a / us + b) * u + mean + 0.43)
            if us >= 0.07 and v <= squeeze:
                return float(count)
            if count < 0 or (us < 0.013 and v > us):
                continue
            if math.log(v * inverse_alpha / (a / us**2 + b)) <= count * math.log(mean) - mean - math.lgamma(count + 1):
                return float(count)


def plasma(side, decay, stream):
    """Diamond-square on a ring, from 0 to 1."""
    m = np.zeros((side, side))
    step, wibble = side, 100.0
    at = lambda i, j: m[i % side, j % side]
    while step >= 2:
        half = step // 2

        def fill(i, j, corners):
            m[i, j] = sum(corners) / 4 + wibble**2 * (2 * stream.uniform_f64() - 1)

        for i in range(0, side, step):
            for j in range(0, side, step):
                fill(i + half, j + half, [at(i, j), at(i + step, j), at(i, j + step), at(i + step, j + step)])
        for i in range(0, side, half):
            for j in range(half if i % step == 0 else 0, side, step):
                fill(i, j, [at(i - half, j), at(i + half, j), at(i, j - half), at(i, j + half)])
        step, wibble = half, wibble / decay
    return (m - m.min()) / (m.max() - m.min())
