#!/usr/bin/env python3
"""What scipy, statsmodels and scikit-learn make of small cases, for the tests of lorascope's statistics.

    python3 -m venv ~/.cache/lorascope/peers/statistics-venv
    ~/.cache/lorascope/peers/statistics-venv/bin/pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0 scikit-learn==1.9.1
    ~/.cache/lorascope/peers/statistics-venv/bin/python scripts/statistics_reference.py

Writes crates/numerics/tests/data/statistics.json: adjusted p-values, intervals of shares, quantiles and equivalence tests by t, sign-flip
tests by enumeration, percentile intervals from given draws, rank correlations, coefficients and accuracy of probes. Regressions and
areas under ROC curves at large are in probe.json (probe_fixtures.py).
"""

import json
import pathlib

import numpy as np
import scipy
import sklearn
import statsmodels
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

# Fewer than in the program, which draws its own; here they are given.
DRAWS = 200


def adjusted(rng):
    """Families of p-values: spread, many ties, all equal, with the ends 0 and 1."""
    families = [
        rng.uniform(size=25) ** 3,
        rng.integers(1, 9, size=30) / 64,
        np.full(6, 0.03),
        np.array([0.0, 1.0, 0.05, 0.05, 1e-12, 0.5]),
        np.array([0.2]),
    ]
    return [{"p": p.tolist(), "q": multipletests(p, method="fdr_bh")[1].tolist()} for p in families]


def shares():
    cases = [(0, 7), (7, 7), (1, 10), (3, 20), (40, 100), (499, 1000), (2, 12000)]
    found = []
    for k, n in cases:
        lo, hi = proportion_confint(k, n, alpha=0.05, method="beta")
        exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert abs(lo - exact.low) < 1e-9 and abs(hi - exact.high) < 1e-9, "the libraries disagree"
        # One-sided: the upper end of an interval of 90%.
        bound = proportion_confint(k, n, alpha=0.1, method="beta")[1] if k < n else 1.0
        found.append({"k": k, "n": n, "lo": float(lo), "hi": float(hi), "bound": float(bound)})
    return found


def equivalence(rng):
    """Two one-sided t-tests of paired differences, one prompt a cluster."""
    found = []
    for n, mean, margin in [(5, 0.02, 0.1), (12, 0.0, 0.05), (30, 0.09, 0.1), (30, -0.2, 0.1), (3, 0.0, 1.0)]:
        d = np.round(rng.normal(mean, 0.1, size=n), 4)
        p = DescrStatsW(d).ttost_mean(-margin, margin)[0]
        found.append({"differences": d.tolist(), "margin": margin, "p": float(p)})
    return found


def sign_flips(rng):
    """Exact p-values over all patterns of signs; some with ties, zeros and prompts in clusters."""
    found = []
    for n, shift in [(2, 1.0), (5, 0.4), (8, 0.5), (11, 0.2), (13, 0.0), (9, 0.3)]:
        d = np.round(rng.normal(shift, 1.0, size=n), 1)
        result = stats.permutation_test(
            (d,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True,
            n_resamples=np.inf, alternative="two-sided",
        )
        found.append({"differences": d.tolist(), "p": float(result.pvalue)})
    return found


def bootstrap(rng):
    """Percentile interval of the mean of clustered values from given draws of clusters; the percentiles of lorascope are order
    statistics at round((n - 1) q)."""
    clusters = [0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 6]
    values = np.round(rng.normal(size=len(clusters)), 3)
    n = max(clusters) + 1
    draws = rng.integers(0, n, size=(DRAWS, n))
    means = []
    for draw in draws:
        picked = np.concatenate([values[[i for i, c in enumerate(clusters) if c == cluster]] for cluster in draw])
        means.append(picked.mean())
    lo, hi = np.quantile(means, [0.025, 0.975], method="nearest")
    return {
        "clusters": clusters,
        "values": values.tolist(),
        "draws": draws.tolist(),
        "lo": float(lo),
        "hi": float(hi),
    }


def ranks(rng):
    a, b = rng.integers(0, 6, size=20), rng.normal(size=20)
    b[3] = b[4]
    return {"a": a.tolist(), "b": b.tolist(), "spearman": float(stats.spearmanr(a, b).statistic)}


def probes(rng):
    """Coefficients by coordinate as they come in, after standardisation, and what the larger probability of two classes gets right."""
    n, d = 40, 5
    x = np.round(rng.normal(size=(n, d)) * [1, 10, 0.1, 3, 2] + [0, 5, 1, -2, 0], 3).astype(np.float32)
    labels = (x[:, 0] + 0.1 * x[:, 1] + rng.normal(size=n) > 0.5).tolist()
    numbers = np.round(2.0 * x[:, 0] - 0.3 * x[:, 3] + rng.normal(size=n), 3)
    fit, rest = list(range(28)), list(range(28, n))
    scaler = StandardScaler().fit(x[fit].astype(np.float64))
    zf, zr = (scaler.transform(x[rows].astype(np.float64)) for rows in (fit, rest))
    y = np.array(labels)
    logistic = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-13, max_iter=1_000_000).fit(zf, y[fit])
    ridge = Ridge(alpha=2.0).fit(zf, numbers[fit])
    scores = logistic.decision_function(zr)
    return {
        "rows": [[float(v) for v in row] for row in x],
        "labels": labels,
        "numbers": numbers.tolist(),
        "fit": fit,
        "predict": rest,
        "penalty": 2.0,
        "logistic": (logistic.coef_[0] / scaler.scale_).tolist(),
        "ridge": (ridge.coef_ / scaler.scale_).tolist(),
        "accuracy": float(accuracy_score(y[rest], logistic.predict(zr))),
        "auc": float(roc_auc_score(y[rest], scores)),
    }


def main():
    rng = np.random.default_rng(7)
    out = {
        "made_with": f"scipy {scipy.__version__}, statsmodels {statsmodels.__version__}, scikit-learn {sklearn.__version__}, "
        f"numpy {np.__version__}",
        "adjusted": adjusted(rng),
        "shares": shares(),
        "equivalence": equivalence(rng),
        "sign_flips": sign_flips(rng),
        "bootstrap": bootstrap(rng),
        "ranks": ranks(rng),
        "probes": probes(rng),
    }
    path = pathlib.Path(__file__).parent.parent / "crates/numerics/tests/data/statistics.json"
    path.write_text(json.dumps(out) + "\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
