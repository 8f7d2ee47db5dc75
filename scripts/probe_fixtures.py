#!/usr/bin/env python3
"""What scikit-learn makes of small regressions, for the tests of lorascope's linear models.

    python3 -m venv ~/.cache/lorascope/peers/probe-venv
    ~/.cache/lorascope/peers/probe-venv/bin/pip install numpy==2.4.6 scikit-learn==1.9.1
    ~/.cache/lorascope/peers/probe-venv/bin/python scripts/probe_fixtures.py

Writes crates/numerics/tests/data/probe.json: rows with more coordinates than rows and the other way round, some coordinates
constant or repeated, with the predictions of LogisticRegression, Ridge and RidgeClassifier on rows that they were not fitted to,
after a StandardScaler that was fitted to the others, and areas under ROC curves. The solver of LogisticRegression is
newton-cholesky, whose gradient ends below 1e-12; lbfgs stops at about 1e-7 whatever its tolerance, and must agree that far.
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

PENALTIES = [0.05, 1.0, 20.0]


def case(name, rng, n, d):
    x = rng.normal(size=(n, d)) * rng.uniform(0.1, 20.0, size=d) + rng.normal(size=d) * 5
    if d > 4:
        x[:, 1] = 3.5  # constant
        x[:, 2] = x[:, 3]  # twice the same
    x[n - 1] = x[0]  # the same row to fit and to predict
    x = np.round(x, 3).astype(np.float32)
    labels = rng.normal(size=n) + (x[:, 0] - x[:, 0].mean()) / x[:, 0].std() > 0
    numbers = np.round(rng.normal(size=n) * 2 + x[:, 0] + 7, 3)
    fit = list(range(0, n * 3 // 4))
    predict = list(range(n * 3 // 4, n))
    scaler = StandardScaler().fit(x[fit].astype(np.float64))
    zf, zp = scaler.transform(x[fit].astype(np.float64)), scaler.transform(x[predict].astype(np.float64))
    logistic, ridge, classifier = [], [], []
    for penalty in PENALTIES:
        options = {"C": 1 / penalty, "tol": 1e-13, "max_iter": 1_000_000}
        scores = [
            LogisticRegression(solver=solver, **options).fit(zf, labels[fit]).decision_function(zp)
            for solver in ["newton-cholesky", "lbfgs"]
        ]
        assert np.abs(scores[0] - scores[1]).max() < 1e-5, "the solvers disagree"
        logistic.append(scores[0].tolist())
        ridge.append(Ridge(alpha=penalty).fit(zf, numbers[fit]).predict(zp).tolist())
        # RidgeClassifier regresses -1 and 1.
        classifier.append(RidgeClassifier(alpha=penalty).fit(zf, labels[fit]).decision_function(zp).tolist())
    middle = logistic[1]
    return {
        "name": name,
        "rows": [[float(v) for v in row] for row in x],
        "labels": labels.tolist(),
        "numbers": numbers.tolist(),
        "fit": fit,
        "predict": predict,
        "penalties": PENALTIES,
        "logistic": logistic,
        "ridge": ridge,
        "ridge_classifier": classifier,
        "log_loss": log_loss(labels[predict], 1 / (1 + np.exp(-np.array(middle)))),
        "auc": roc_auc_score(labels[predict], middle),
        "r2": r2_score(numbers[predict], ridge[1]),
    }


def auc_with_ties(rng):
    scores = rng.integers(0, 5, size=40)
    labels = rng.integers(0, 2, size=40).astype(bool)
    return {"scores": scores.tolist(), "labels": labels.tolist(), "auc": roc_auc_score(labels, scores)}


def main():
    rng = np.random.default_rng(20)
    out = {
        "made_with": f"scikit-learn {sklearn.__version__}, numpy {np.__version__}",
        "cases": [case("wide", rng, 28, 40), case("tall", rng, 48, 6), case("square", rng, 24, 18)],
        "ties": auc_with_ties(rng),
    }
    path = pathlib.Path(__file__).parent.parent / "crates/numerics/tests/data/probe.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(out) + "\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
