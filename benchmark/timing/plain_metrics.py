"""Each metric as one would write its definition down with scikit-learn, scipy and numpy, under the metric's own name.

What `benchmark.timing.speed_metrics` times the metrics against, and their tests compare them with. A form returns the
scores that it computes, by the metric's keys; all latents are continuous but where a metric is about categorical ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from scipy.stats import entropy, norm, spearmanr
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    confusion_matrix,
    homogeneity_completeness_v_measure,
    log_loss,
    mutual_info_score,
    normalized_mutual_info_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import LinearSVC

from metrics import Codes, metric_rng

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Values = dict[str, float]


def mig(codes: Codes) -> Values:
    return {"mig": float(np.mean(top_gap(information(codes)) / entropies(codes.factors)))}


def mig_sup(codes: Codes) -> Values:
    known = information(codes).T
    per_factor, per_code = known / entropies(codes.factors)[:, None], known / entropies(binned(codes))
    return {"mig_sup": float(np.mean(top_gap(per_factor))), "mig_sup_code": float(np.mean(top_gap(per_code)))}


def dcimig(codes: Codes) -> Values:
    known = information(codes)
    gaps, best = top_gap(known.T), known.argmax(axis=1)
    found = [max(gaps[best == j], default=0) for j in range(known.shape[1])]
    return {"dcimig": float(sum(found) / entropies(codes.factors).sum())}


def jemmig(codes: Codes) -> Values:
    known, of_factors, of_codes = information(codes), entropies(codes.factors), entropies(binned(codes))
    best, gaps, factors = known.argmax(axis=0), top_gap(known), np.arange(known.shape[1])
    joint = of_codes[best] + of_factors - known[best, factors]
    return {
        "jemmig": float(np.mean(1 - (joint - gaps) / (of_factors + np.log(20)))),
        "jemmig_nats": float(np.mean(joint - gaps)),
        "jemmig_joint": float(np.mean(gaps / joint)),
    }


def rmig(codes: Codes) -> Values:
    assert codes.logvar is not None
    edges = np.r_[-np.inf, np.linspace(-4, 4, 101)[1:-1], np.inf]
    known = np.zeros((codes.mean.shape[1], codes.factors.shape[1]))
    for i, (mean, logvar) in enumerate(zip(codes.mean.T, codes.logvar.T.astype(float), strict=True)):
        mass = np.diff(norm.cdf(edges, mean[:, None], np.exp(logvar / 2)[:, None]))
        for j, y in enumerate(codes.factors.T):
            table = np.stack([mass[y == value].sum(axis=0) for value in np.unique(y)])
            known[i, j] = entropy(table.sum(axis=0)) + entropy(table.sum(axis=1)) - entropy(table, axis=None)
    gaps = top_gap(known)
    return {"rmig": float(np.mean(gaps / entropies(codes.factors))), "rmig_nats": float(np.mean(gaps))}


def modularity(codes: Codes) -> Values:
    squared = information(codes) ** 2
    best, others, areas = squared.max(axis=1), squared.shape[1] - 1, []
    for j, y in enumerate(codes.factors.T):
        model = linear_probe().fit(codes.mean, y)
        areas.append([explicit(model, part, j) for part in (codes, test_rows(codes))])
    train, test = np.mean(areas, axis=0)
    ratio = float(np.mean(1 - (squared.sum(axis=1) - best) / best / others))
    return {"modularity": ratio, "modularity_explicitness": test, "modularity_explicitness_train": train}


def sap(codes: Codes) -> Values:
    test, shape = test_rows(codes), (codes.mean.shape[1], codes.factors.shape[1])
    accuracy, correlation = np.zeros(shape), np.zeros(shape)
    for i, j in np.ndindex(*shape):
        z, y = codes.mean[:, [i]], codes.factors[:, j]
        svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(z, y)
        accuracy[i, j] = svm.score(test.mean[:, [i]], test.factors[:, j])
        correlation[i, j] = np.corrcoef(z[:, 0], y)[0, 1] ** 2
    return {"sap": float(np.mean(top_gap(accuracy))), "sap_continuous": float(np.mean(top_gap(correlation)))}


def dci(codes: Codes) -> Values:
    models = [GradientBoostingClassifier(random_state=0).fit(codes.mean, y) for y in codes.factors.T]
    train, test = (
        [model.score(part.mean, y) for model, y in zip(models, part.factors.T, strict=True)]
        for part in (codes, test_rows(codes))
    )
    importance = np.stack([model.feature_importances_ for model in models], axis=1)
    return {
        "dci_disentanglement": concentration(importance),
        "dci_completeness": concentration(importance.T),
        "dci_informativeness": float(np.mean(test)),
        "dci_informativeness_train": float(np.mean(train)),
    }


def infomec(codes: Codes) -> Values:
    ranges, x = np.ptp(codes.mean, axis=0), StandardScaler().fit_transform(codes.mean)
    active = x[:, ranges > ranges.max() / 20]
    known = [mutual_info_classif(active, y, n_neighbors=10, random_state=0) for y in codes.factors.T]
    shares, explained = np.stack(known, axis=1) / entropies(codes.factors), []
    for y in codes.factors.T:
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(x, y)
        explained.append(1 - log_loss(y, model.predict_proba(x)) / np.log(len(model.classes_)))
    modular, compact = (
        ((rows.max(axis=1) / rows.sum(axis=1)).mean() - 1 / rows.shape[1]) / (1 - 1 / rows.shape[1])
        for rows in (shares, shares.T)
    )
    return {
        "infomec_modularity": float(modular),
        "infomec_compactness": float(compact),
        "infomec_explicitness": float(np.mean(explained)),
    }


def irs(codes: Codes) -> Values:
    matrix, largest = irs_matrix(codes)
    scores = matrix.max(axis=1)
    return {"irs": float(np.average(scores, weights=largest)), "irs_mean": float(scores.mean())}


def irs_matrix(codes: Codes) -> tuple[Floats, Floats]:
    """(latents, factors) robustness of the latents that vary, and their largest distances from their means.

    Means are sums in the codes' own precision, as in the study's code.
    """
    z = codes.mean[:, codes.mean.var(axis=0) > 0]
    largest, left = np.abs(z - z.mean(axis=0)).max(axis=0), np.zeros((z.shape[1], codes.factors.shape[1]))
    for j, y in enumerate(codes.factors.T):
        group = np.digitize(y, np.histogram(y, 20)[1][:-1])
        parts = [z[group == value] for value in np.unique(group)]
        left[:, j] = np.mean([np.quantile(np.abs(part - part.mean(axis=0)), 0.99, axis=0) for part in parts], axis=0)
    return 1 - left / largest[:, None], largest


def unsupervised(codes: Codes) -> Values:
    covariance, correlation = np.cov(codes.mean, rowvar=False), np.corrcoef(codes.mean, rowvar=False)
    root = np.sqrt(np.diag(covariance))
    distance = 2 * np.trace(covariance) - 2 * np.trace(sqrtm(covariance * root * root[:, None])).real
    pairs = [mutual_info_score(a, b) for a, b in combinations(binned(codes).T, 2)]
    return {
        "unsupervised_total_correlation": float(-np.linalg.slogdet(correlation)[1] / 2),
        "unsupervised_wasserstein": float(distance),
        "unsupervised_wasserstein_norm": float(distance / np.trace(covariance)),
        "unsupervised_mutual_information": float(np.mean(pairs)),
    }


def downstream(codes: Codes, sizes: Sequence[int] = (10, 100, 1_000)) -> Values:
    test, values = test_rows(codes), {}
    for size in (size for size in sizes if size <= codes.n):
        for name, learner in (("logistic", LogisticRegression()), ("trees", GradientBoostingClassifier())):
            model, train = make_pipeline(StandardScaler(), learner), codes.select(slice(size))
            pairs = zip(train.factors.T, test.factors.T, strict=True)
            right = [model.fit(train.mean, y).score(test.mean, y_test) for y, y_test in pairs]
            values[f"downstream_{name}_{size}"] = float(np.mean(right))
    return values


def discrete_accuracy(codes: Codes) -> Values:
    labels, (probs,) = class_labels(codes), codes.probs
    table = confusion_matrix(labels, probs.argmax(axis=1))
    value_of = np.argsort(linear_sum_assignment(table, maximize=True)[1])
    confidence, error = probs.max(axis=1), 0.0
    right = value_of[probs.argmax(axis=1)] == labels
    place = np.digitize(confidence, np.linspace(0, 1, 16)[1:-1])
    for b in np.unique(place):
        error += (place == b).mean() * abs(right[place == b].mean() - confidence[place == b].mean())
    return panel("discrete_accuracy", labels, probs.argmax(axis=1)) | {"discrete_accuracy_calibration_error": error}


def cluster_accuracy(codes: Codes) -> Values:
    labels = class_labels(codes)
    clusters = KMeans(len(np.unique(labels)), n_init=10, random_state=0).fit(codes.mean).labels_
    return panel("cluster_accuracy", labels, clusters)


def attributes(codes: Codes) -> Values:
    y, (test, y_test) = attribute_table(codes), (test_rows(codes), attribute_table(test_rows(codes)))
    mean, every = y.mean(axis=0), LinearRegression().fit(codes.mean, y).predict(test.mean)
    values = {}
    for j, name in enumerate(codes.attribute_names):
        best = np.abs(np.corrcoef(codes.mean, y[:, j], rowvar=False)[-1, :-1]).argmax()
        one = LinearRegression().fit(codes.mean[:, [best]], y[:, j]).predict(test.mean[:, [best]])
        for key, predicted in (("one", one), ("all", every[:, j])):
            rest = ((y_test[:, j] - predicted) ** 2).mean() / ((y_test[:, j] - mean[j]) ** 2).mean()
            values[f"attributes_{name}_{key}"] = float(max(1 - rest, 0))
    return values


def probe_accuracy(codes: Codes) -> Values:
    model, test = linear_probe(max_iter=1_000).fit(codes.mean, class_labels(codes)), test_rows(codes)
    return {"probe_accuracy": float(model.score(test.mean, class_labels(test)))}


def reconstruction(codes: Codes) -> Values:
    assert codes.recon is not None
    return {"reconstruction": float(np.nanmean(codes.recon))}


def kl(codes: Codes) -> Values:
    assert codes.logvar is not None
    continuous = float((0.5 * (codes.mean**2 + np.exp(codes.logvar) - codes.logvar - 1)).sum(axis=1).mean())
    categorical = sum(float(np.mean(np.log(p.shape[1]) - entropy(p, axis=1))) for p in codes.probs)
    return {"kl_total": continuous + categorical, "kl_continuous": continuous, "kl_categorical": categorical}


def elbo_parts(codes: Codes, draws: int = 2_000) -> Values:
    """Of the points that the metric draws."""
    assert codes.logvar is not None
    rng, mean, sd = metric_rng(0, "elbo_parts"), codes.mean.astype(float), np.exp(codes.logvar.astype(float) / 2)
    rows, probs = rng.permutation(codes.n)[np.arange(draws) % codes.n], codes.probs[0].astype(float)
    points = mean[rows] + sd[rows] * rng.standard_normal((draws, mean.shape[1]))
    values = []
    for row, z in zip(rows, points, strict=True):
        of_z = norm.logpdf(z, mean, sd)
        for k, weight in enumerate(probs[row]):
            of_k, left = np.log(probs[:, k]), np.arange(codes.n) != row
            joint = of_z.sum(axis=1) + of_k
            aggregate, others = logsumexp(joint) - np.log(codes.n), logsumexp(joint[left]) - np.log(codes.n - 1)
            margins = logsumexp(of_z, axis=0).sum() - of_z.shape[1] * np.log(codes.n) + np.log(probs[:, k].mean())
            prior = norm.logpdf(z).sum() - np.log(probs.shape[1])
            parts = (joint[row] - aggregate, joint[row] - others, aggregate - margins, margins - prior)
            values.append(weight * np.array(parts))
    keys = ("information", "information_upper", "total_correlation", "dimension_kl")
    return dict(zip((f"elbo_parts_{key}" for key in keys), np.sum(values, axis=0) / draws, strict=True))


def active_units(codes: Codes) -> Values:
    continuous = sum(float(np.var(z) > 0.01) for z in codes.mean.T)
    return {"active_units": continuous + sum(float(np.var(p, axis=0).sum() > 0.01) for p in codes.probs)}


def udr(runs: Sequence[Codes]) -> Values:
    lasso, ranks = np.full((2, len(runs), len(runs)), np.nan)
    kept = [scale(run.mean[:, informed(run)].astype(float)) for run in runs]
    for i, j in np.argwhere(~np.eye(len(runs), dtype=bool)):
        weights = Lasso(alpha=0.1, random_state=0).fit(kept[i], kept[j]).coef_
        lasso[i, j] = relative_strength(np.abs(weights))
        correlations = [[abs(spearmanr(a, b)[0]) for b in kept[j].T] for a in kept[i].T]
        ranks[i, j] = relative_strength(np.array(correlations))
    by_lasso, by_rank = np.nanmedian(lasso, axis=0), np.nanmedian(ranks, axis=0)
    values = {f"udr_{i}": float(value) for i, value in enumerate(by_lasso)}
    return {"udr": float(by_lasso.mean()), "udr_spearman": float(by_rank.mean())} | values


def betavae_score(codes: Codes) -> Values:
    rng, y = np.random.default_rng(2), np.random.default_rng(3).integers(codes.factors.shape[1], size=15_000)
    x = np.empty((len(y), codes.mean.shape[1]))
    for vote, held in enumerate(y):
        values = rng.integers(codes.factor_sizes[held], size=64)
        x[vote] = np.abs(alike(codes, rng, held, values) - alike(codes, rng, held, values)).mean(axis=0)
    return {"betavae_score": float(LogisticRegression().fit(x[:10_000], y[:10_000]).score(x[10_000:], y[10_000:]))}


def factorvae_score(codes: Codes) -> Values:
    rng, y = np.random.default_rng(2), np.random.default_rng(3).integers(codes.factors.shape[1], size=15_000)
    overall = codes.mean[rng.integers(codes.n, size=10_000)].var(axis=0, ddof=1)
    active = np.flatnonzero(np.sqrt(overall) >= 0.05)
    votes = np.zeros((2, codes.factors.shape[1], len(active)))
    for vote, held in enumerate(y):
        values = rng.integers(codes.factor_sizes[held], size=1)
        variance = alike(codes, rng, held, values).var(axis=0, ddof=1)
        votes[int(vote >= 10_000), held, (variance / overall)[active].argmin()] += 1
    right = votes[1][votes[0].argmax(axis=0), np.arange(len(active))]
    return {"factorvae_score": float(right.sum() / votes[1].sum())}


# What the forms share.


def binned(codes: Codes) -> Ints:
    """Every latent in 20 bins of equal width."""
    return np.stack([np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.mean.T], axis=1)


def information(codes: Codes) -> Floats:
    """Mutual information of every binned latent and every factor, pair by pair."""
    return np.array([[mutual_info_score(y, z) for y in codes.factors.T] for z in binned(codes).T])


def entropies(columns: Ints) -> Floats:
    """Entropy of every column."""
    return np.array([mutual_info_score(column, column) for column in columns.T])


def top_gap(matrix: Floats) -> Floats:
    """Difference of the two largest entries of every column."""
    return np.diff(np.sort(matrix, axis=0)[-2:], axis=0)[0]


def concentration(importance: Floats) -> float:
    """1 - the entropy of every row, as a share of the most, weighted by the row's sum."""
    return float(np.average(1 - entropy(importance, base=importance.shape[1], axis=1), weights=importance.sum(axis=1)))


def linear_probe(**settings: int) -> LogisticRegression:
    """Logistic regression on standardised latents."""
    return make_pipeline(StandardScaler(), LogisticRegression(**settings))


def explicit(model: LogisticRegression, part: Codes, factor: int) -> float:
    """Area under the ROC curve of each value of a factor against the rest, mean over values."""
    truth, found = part.factors[:, factor], model.predict_proba(part.mean)
    return float(np.mean([roc_auc_score(truth == value, found[:, k]) for k, value in enumerate(model.classes_)]))


def test_rows(codes: Codes) -> Codes:
    """The fixed test rows."""
    assert codes.test is not None
    return codes.test


def attribute_table(codes: Codes) -> Floats:
    """The attributes that there are."""
    assert codes.attributes is not None
    return codes.attributes


def class_labels(codes: Codes) -> Ints:
    """Values of the class factor."""
    return codes.factors[:, codes.factor_names.index(str(codes.class_factor))]


def panel(name: str, labels: Ints, groups: Ints) -> Values:
    """How well groups agree with labels, by scikit-learn's measures."""
    table = confusion_matrix(labels, groups)
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(labels, groups)
    values = {
        "": table[linear_sum_assignment(table, maximize=True)].sum() / len(labels),
        "_many_to_one": table.max(axis=0).sum() / len(labels),
        "_nmi": normalized_mutual_info_score(labels, groups),
        "_ari": adjusted_rand_score(labels, groups),
        "_homogeneity": homogeneity,
        "_completeness": completeness,
        "_information": mutual_info_score(labels, groups),
        "_usage": mutual_info_score(groups, groups),
    }
    return {f"{name}{key}": float(value) for key, value in values.items()}


def informed(codes: Codes) -> NDArray[np.bool_]:
    """Which latents have a divergence from the prior above 0.01 nats."""
    assert codes.logvar is not None
    return (0.5 * (codes.mean**2 + np.exp(codes.logvar) - codes.logvar - 1)).mean(axis=0) > 0.01


def relative_strength(similarity: Floats) -> float:
    """Mean over rows and columns of (largest entry)² / sum, one of zeros counts 0."""
    with np.errstate(invalid="ignore"):
        sides = [np.nan_to_num(similarity.max(axis=k) ** 2 / similarity.sum(axis=k)).mean() for k in (0, 1)]
    return float(np.mean(sides))


def alike(codes: Codes, rng: np.random.Generator, held: int, values: Ints) -> Floats:
    """Codes of 64 random images that have the given values of one factor."""
    factors = [rng.integers(size, size=64) for size in codes.factor_sizes]
    factors[held] = np.broadcast_to(values, 64)
    return codes.mean[np.ravel_multi_index(tuple(factors), codes.factor_sizes)]
