"""Cases of attention."""

import torch.nn.functional as F


def scaled_dot_product_attention(g):
    def add(front, n, m, d, e, causal=False, mask=None, scale=None):
        inputs = [g.normal(*front, n, d), g.normal(*front, m, d), g.normal(*front, m, e)]
        if mask is not None:
            # Every query sees a key: what PyTorch answers without one has changed from version to version.
            seen = g.uniform(0.0, 1.0, *mask, n, m) < 0.6
            seen[..., 0] = True
            inputs.append(seen)

        def compute(q, k, v, seen=None):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal, scale=scale)

        g.case(inputs, compute, causal=causal, scale=scale or 0.0)

    add((2, 3), 5, 7, 4, 6)
    add((1,), 1, 3, 2, 2)
    add((2,), 17, 17, 8, 8, causal=True)
    add((1, 2), 5, 9, 4, 3, causal=True)
    add((2, 2), 6, 5, 4, 4, scale=1.0)
    add((2, 3), 5, 7, 4, 4, mask=(2, 1))
    add((2, 3), 5, 7, 4, 4, mask=(1, 1))
    add((2, 3), 4, 6, 3, 5, mask=(2, 3))
    add((1, 2), 67, 70, 5, 3)


# The file's name and what fills it.
CASES = {"scaled_dot_product_attention": scaled_dot_product_attention}
