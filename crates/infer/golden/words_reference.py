"""What scikit-learn gets from all words and from static vocabularies: `python words_reference.py imdb_10k_subset.tsv.gz`.

Logistic regression on which words of the training part's vocabulary are in a review. A static vocabulary has the words of largest |weight|
or of largest mutual information with the class, as many as bring the mean number of words of a review to a share of all; the
regression is fitted again on those. A fifth of the training reviews chooses the penalty and the ranking. A peer of `select_words`.
"""

import gzip
import re
import sys

import numpy as np
import scipy.sparse as sparse
from sklearn.linear_model import LogisticRegression

PENALTIES = (0.03, 0.1, 0.3)


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower().replace("<br />", " "))


def main():
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t", 2) for line in file]
    train = [(words(text), int(label)) for split, label, text in rows if split == "train"]
    test = [(words(text), int(label)) for split, label, text in rows if split == "test"]
    np.random.RandomState(0).shuffle(train)
    parts = {"train": train[len(train) // 5 :], "validation": train[: len(train) // 5], "test": test}
    counts = {}
    for text, _ in parts["train"]:
        for word in text:
            counts[word] = counts.get(word, 0) + 1
    number = {word: i for i, word in enumerate(sorted(w for w, n in counts.items() if n > 1))}
    count = np.array([counts[word] for word in number])
    labels = {name: np.array([label for _, label in part]) for name, part in parts.items()}

    def matrix(part, keep):
        at = [sorted({number[w] for w in text if w in number and keep[number[w]]}) for text, _ in part]
        ends = np.cumsum([0] + [len(a) for a in at])
        return sparse.csr_matrix((np.ones(ends[-1]), np.concatenate(at).astype(int), ends), shape=(len(part), len(number)))

    def best(keep):
        """The fit that is best on validation: its score there, on test, and its weights."""
        x = {name: matrix(part, keep) for name, part in parts.items()}
        fits = [LogisticRegression(C=c, max_iter=300).fit(x["train"], labels["train"]) for c in PENALTIES]
        scored = [(m.score(x["validation"], labels["validation"]), m.score(x["test"], labels["test"]), m) for m in fits]
        return max(scored, key=lambda s: s[0])

    everything = np.ones(len(number), bool)
    validation, score, model = best(everything)
    print(f"{len(number)} words; all words: validation {validation:.4f}, test {score:.4f}")
    x = matrix(parts["train"], everything)
    inside = [np.asarray(x[labels["train"] == c].mean(0)).ravel().clip(1e-9, 1 - 1e-9) for c in (0, 1)]

    def entropy(p):
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    information = entropy((inside[0] + inside[1]) / 2) - (entropy(inside[0]) + entropy(inside[1])) / 2
    total = sum(len(text) for text, _ in parts["train"])
    for share in (0.02, 0.05, 0.1, 0.2):
        found = []
        for name, worth in (("|weight|", np.abs(model.coef_[0])), ("information", information)):
            order = np.argsort(-worth, kind="stable")
            keep = np.zeros(len(number), bool)
            keep[order[: np.searchsorted(np.cumsum(count[order]), share * total)]] = True
            found.append((*best(keep)[:2], name, keep.sum()))
        validation, score, name, size = max(found)
        print(f"{share:.2f} of the words: {name}, {size} words: validation {validation:.4f}, test {score:.4f}")


if __name__ == "__main__":
    main()
