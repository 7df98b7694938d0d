"""Golden traces of online learning: `python make_online.py` writes them, `python make_online.py --check` compares.

Linear models learn a drifting stream of 120 inputs one at a time by river (SGD, AdaGrad, PA, PA-I, PA-II) and by the formulas of
PA-I for numbers and of FTRL-proximal (McMahan et al. 2013). river's FTRL computes the weights before it takes the gradient in, so they lag one input
behind the paper's; the script runs the same code with that lag and asserts that it equals river. The layout is in README.md.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import river
from river import linear_model, optim

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "kernels" / "golden"))
import store  # noqa: E402

N, D = 120, 5


def stream():
    """Inputs with a column of ones, classes and numbers; the rule turns halfway."""
    draw = np.random.RandomState(7)
    x = draw.normal(size=(N, D)).astype(np.float32)
    x[:, -1] = 1.0
    rule = np.where(np.arange(N)[:, None] < N // 2, [1.0, -2.0, 0.5, 0.0, 0.3], [-1.0, 1.0, 0.5, 1.0, -0.2])
    number = ((x * rule).sum(1) + 0.3 * draw.normal(size=N)).astype(np.float32)
    return x, (number > 0).astype(np.float32), number


def as_dict(row):
    return {i: float(v) for i, v in enumerate(row)}


def river_trace(model, x, y, score):
    """Score of each input before its label was learned, and the last weights."""
    scores = []
    for row, label in zip(x, y):
        scores.append(score(model, as_dict(row)))
        model.learn_one(as_dict(row), label)
    return np.array(scores), np.array([model.weights[i] for i in range(D)])


def logit(model, row):
    return sum(model.weights.get(i, 0.0) * v for i, v in row.items())


def ftrl(x, y, alpha, beta, l1, l2, lag):
    """FTRL-proximal on the logistic loss; with `lag` the weights are made before the gradient is taken in, as river does."""
    z, n, w, scores = np.zeros(D), np.zeros(D), np.zeros(D), []

    def weights():
        shrunk = -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2)
        return np.where(np.abs(z) <= l1, 0.0, shrunk)

    for row, label in zip(x.astype(np.float64), y):
        scores.append(row @ w)
        g = (1.0 / (1.0 + np.exp(-row @ w)) - label) * row
        if lag:
            w = np.where(np.abs(z) > l1, weights(), w)
        sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / alpha
        z, n = z + g - sigma * w, n + g**2
        if not lag:
            w = weights()
    return np.array(scores), w


def pa1_insensitive(x, y, c, slack):
    """PA-I for numbers (Crammer et al. 2006, section 5). river's loss takes the numbers for classes, so it is no peer here."""
    w, scores = np.zeros(D), []
    for row, label in zip(x.astype(np.float64), y.astype(np.float64)):
        scores.append(row @ w)
        loss = max(0.0, abs(row @ w - label) - slack)
        w = w + np.sign(label - row @ w) * min(c, loss / (row @ row)) * row
    return np.array(scores), w


def traces():
    x, classes, numbers = stream()
    plain = dict(intercept_lr=0.0)
    f32 = np.float32
    out = {"x": x, "classes": classes, "numbers": numbers}

    def add(name, scores, w):
        out[f"{name}.scores"], out[f"{name}.weights"] = scores.astype(f32), w.astype(f32)

    log = lambda o: linear_model.LogisticRegression(optimizer=o, **plain)
    booleans = [bool(c) for c in classes]
    add("sgd", *river_trace(log(optim.SGD(0.1)), x, booleans, logit))
    add("adagrad", *river_trace(log(optim.AdaGrad(0.3)), x, booleans, logit))
    squared = linear_model.LinearRegression(optimizer=optim.SGD(0.02), **plain)
    add("sgd_squared", *river_trace(squared, x, numbers.astype(float), logit))
    for name, mode in [("pa", 0), ("pa1", 1), ("pa2", 2)]:
        c = 0.1
        model = linear_model.PAClassifier(C=c, mode=mode, learn_intercept=False)
        add(name, *river_trace(model, x, booleans, logit))
    add("pa1_insensitive", *pa1_insensitive(x, numbers, 0.1, 0.2))
    for name, constants in [("ftrl", (0.2, 1.0, 0.0, 0.0)), ("ftrl_sparse", (0.2, 1.0, 2.0, 0.5))]:
        alpha, beta, l1, l2 = constants
        lagging, w_lagging = ftrl(x, classes, *constants, lag=True)
        scores, w = river_trace(log(optim.FTRLProximal(alpha, beta, l1, l2)), x, booleans, logit)
        assert np.allclose(scores, lagging, atol=1e-9) and np.allclose(w, w_lagging, atol=1e-9), name
        add(name, *ftrl(x, classes, *constants, lag=False))
    assert (out["ftrl_sparse.weights"] == 0).any() and (out["ftrl_sparse.weights"] != 0).any()
    return out


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch if check else HERE) / "online.safetensors"
        store.write(path, traces(), {"peer": f"river {river.__version__}"})
        if check and (why := store.difference(HERE / path.name, path)):
            sys.exit(f"{path.name}: {why}")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
