"""Logistic regression with few coefficients, fitted to many weightings of the same images at once."""

from __future__ import annotations

import numpy as np

# In logits. Where the sigmoids are flat, a Newton step can be arbitrarily long and lead to where they are even flatter.
LONGEST = 4.0
# Of the log-likelihood per image. A fit has converged once a step gains less, even if the step is long: where the
# sigmoids are flat, rounding keeps steps long. Far below 1e-16, because a flat sigmoid may add so little.
LEAST_GAIN = 1e-24


def fit(
    labels: np.ndarray,
    x: np.ndarray,
    offset: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Maximum-likelihood coefficients by Newton's method, one fit per weighting.

    First the plain method from `start`, which is fast if the start is good. Fits that didn't converge start again from
    0, with steps of at most LONGEST that are halved until the likelihood increases.

    Args:
        labels: (N,) 0 or 1.
        x: (N, K) regressors, with mean about 0 and standard deviation about 1, or constant.
        offset: (N,) a term with the fixed coefficient 1.
        weights: (B, N).
        start: (K,).
        tolerance: upper limit of the last step; the error is of the order of its square.
    Returns: (B, K); NaN if there is no finite maximum.
    """
    outer = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)  # (N, K K)
    with np.errstate(over="ignore", invalid="ignore"):  # diverging fits are fitted again below
        # All fits take the first step from the same point, so it needs two matrix products only.
        residual, slope = _residual(offset + x @ start, labels)
        step, _ = _solve(weights @ (slope[:, None] * outer), weights @ (residual[:, None] * x))
        beta = _newton(labels, x, outer, offset, weights, start + step, tolerance, steps=10, guarded=False)
        failed = np.isnan(beta[:, 0])
        if failed.any():
            zeros = np.zeros((int(failed.sum()), x.shape[1]))
            beta[failed] = _newton(labels, x, outer, offset, weights[failed], zeros, tolerance, steps=200, guarded=True)
    return beta


def _newton(labels, x, outer, offset, weights, beta, tolerance: float, steps: int, guarded: bool) -> np.ndarray:
    result = np.full_like(beta, np.nan)
    rows = np.arange(len(beta))  # the fits that have not converged yet
    step, loss = np.zeros_like(beta), np.full(len(beta), np.inf)
    for _ in range(steps):
        eta = offset + (beta + step) @ x.T  # (B, N)
        accepted = np.ones(len(rows), bool)
        if guarded:
            new_loss = np.einsum("bn,bn->b", weights, np.logaddexp(0, eta) - labels * eta)
            accepted = new_loss <= loss + 1e-12 * np.abs(new_loss)
            loss = np.where(accepted, new_loss, loss)
        beta = np.where(accepted[:, None], beta + step, beta)
        residual, slope = _residual(eta, labels)
        gradient = (weights * residual) @ x
        newton, solvable = _solve((weights * slope) @ outer, gradient)
        if guarded:
            newton = np.clip(newton, -1e300, 1e300)  # infinite if a slope is nearly 0
            newton *= (LONGEST / np.maximum(np.abs(newton).max(1), LONGEST))[:, None]
        step = np.where(accepted[:, None], newton, step / 2)
        gain = np.einsum("bk,bk->b", gradient, step)  # about twice the gain of the step in log-likelihood
        settled = (np.abs(step).max(1) < tolerance) | (np.abs(gain) < LEAST_GAIN * weights.sum(1))
        done = accepted & solvable & settled
        result[rows[done]] = (beta + step)[done]
        going = ~done & (solvable | guarded)
        if not going.any():
            break
        if not going.all():
            rows, weights, beta, step, loss = (a[going] for a in (rows, weights, beta, step, loss))
    return result


def _residual(eta: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels - sigmoid(eta), and the sigmoid's slope, computed from the smaller tail to keep precision."""
    tail = np.exp(-np.abs(eta))
    inverse = 1 / (1 + tail)
    residual = np.where((eta < 0) == (labels == 1), 1, tail) * inverse
    return np.where(labels == 1, residual, -residual), tail * inverse * inverse


def _solve(hessian: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, K K), (B, K) -> the Newton steps, and which exist; where none exists, the step is the gradient."""
    k = gradient.shape[1]
    hessian = hessian.reshape(-1, k, k)
    solvable = np.linalg.det(hessian) > 0
    hessian[~solvable] = np.eye(k)
    return np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], solvable
