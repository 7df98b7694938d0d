"""Golden traces of the drift detectors, from river (BSD-3-Clause) on fixed streams.

    python3 -m pip install river==0.26.1 safetensors
    python3 make_drift.py

Writes drift.safetensors: for each stream the values, for each detector what it said after each of them: 0 stable,
1 warning, 2 drift; for ADWIN the width and the mean of its window as well; for KSWIN the positions it drew, because
its generator is Python's. KS p-values are those of scipy.stats.ks_2samp.
"""

import pathlib

import numpy as np
from river import drift
from safetensors.numpy import save_file
from scipy.stats import ks_2samp

rng = np.random.default_rng(17)
N = 600


def pieces(*parts):
    return np.concatenate(parts).astype(np.float64)


streams = {
    "calm": rng.normal(0.5, 0.1, 3 * N),
    "jump": pieces(rng.normal(0.3, 0.1, N), rng.normal(0.8, 0.1, N), rng.normal(0.8, 0.1, N)),
    "slope": 0.2 + np.linspace(0, 1.5, 3 * N) + rng.normal(0, 0.2, 3 * N),
    "wide": pieces(rng.normal(0, 1, N), rng.normal(0, 4, N), rng.normal(3, 1, N)),
}
errors = {
    "few_then_many": pieces(rng.random(N) < 0.1, rng.random(N) < 0.4, rng.random(N) < 0.1),
    "steady": pieces(rng.random(3 * N) < 0.2),
    "rare_then_dense": pieces(rng.random(2 * N) < 0.03, rng.random(N) < 0.5),
}


def said(detector, values, each=lambda d: None):
    out, extra = [], []
    for x in values:
        detector.update(x)
        warning = getattr(detector, "warning_detected", False)
        out.append(2 if detector.drift_detected else 1 if warning else 0)
        extra.append(each(detector))
    return np.array(out, dtype=np.uint8), extra


out = {}
for name, values in {**streams, **errors}.items():
    values = np.asarray(values, dtype=np.float64)
    out[f"{name}/values"] = values
    flags, extra = said(drift.ADWIN(), values, lambda d: (d.width, d.estimation))
    out[f"{name}/adwin"] = flags
    out[f"{name}/adwin_width"] = np.array([e[0] for e in extra], dtype=np.float64)
    out[f"{name}/adwin_mean"] = np.array([e[1] for e in extra], dtype=np.float64)
    out[f"{name}/page_hinkley"], _ = said(drift.PageHinkley(), values)
    out[f"{name}/page_hinkley_5"], _ = said(drift.PageHinkley(threshold=5.0), values)
for name, values in errors.items():
    out[f"{name}/ddm"], _ = said(drift.binary.DDM(), values.astype(int))
    out[f"{name}/eddm"], _ = said(drift.binary.EDDM(), values.astype(int))


class Drawn:
    """Positions from a generator of ours, remembered."""

    def __init__(self, log):
        self.rng, self.log = np.random.default_rng(5), log

    def sample(self, population, k):
        picked = [int(i) for i in self.rng.choice(len(population), size=k, replace=False)]
        self.log.append(picked)
        return picked


for name, values in streams.items():
    log = []
    drawn = Drawn(log)
    detector = drift.KSWIN()
    flags, positions = [], []
    for x in values:
        if detector.drift_detected:
            detector._reset()
        detector._rng = drawn
        before = len(log)
        detector.update(x)
        flags.append(2 if detector.drift_detected else 0)
        positions.append(log[-1] if len(log) > before else [0] * 30)
    out[f"{name}/kswin"] = np.array(flags, dtype=np.uint8)
    out[f"{name}/kswin_drawn"] = np.array(positions, dtype=np.uint8)

pairs, p_values, statistics = [], [], []
for shift in (0.0, 0.2, 0.5, 1.0, 3.0):
    for _ in range(6):
        a, b = rng.normal(0, 1, 30), rng.normal(shift, 1, 30)
        st, p = ks_2samp(a, b, method="auto")
        pairs.append(np.stack([a, b]))
        statistics.append(st)
        p_values.append(p)
out["ks/pairs"] = np.array(pairs)
out["ks/statistic"] = np.array(statistics)
out["ks/p"] = np.array(p_values)
save_file(out, pathlib.Path(__file__).parent / "drift.safetensors")
for key, value in out.items():
    if value.dtype == np.uint8 and value.ndim == 1:
        print(key, "drifts at", np.flatnonzero(value == 2).tolist()[:8], "warnings", int((value == 1).sum()))
