"""Logistic regression of few coefficients on many weightings of the same images at once."""

from __future__ import annotations

import numpy as np


def fit(labels: np.ndarray, x: np.ndarray, offset: np.ndarray, weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Maximum-likelihood coefficients by Newton's method, one fit a weighting.

    The plain method first, from `start`, which a good start makes the quick one. Where it hasn't settled, once more
    from 0 with every step halved until the likelihood rises, which always converges where the maximum is finite.

    Args:
        labels: (N,) 0 or 1.
        x: (N, K) regressors, of mean about 0 and spread about 1, or constant.
        offset: (N,) a term whose coefficient is 1.
        weights: (B, N).
        start: (K,).
    Returns: (B, K); NaN where there is no finite maximum.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a fit that runs away is run again
        beta = _newton(labels, x, offset, weights, np.tile(start, (len(weights), 1)), steps=10, guarded=False)
        failed = np.isnan(beta[:, 0])
        if failed.any():
            zeros = np.zeros((int(failed.sum()), x.shape[1]))
            beta[failed] = _newton(labels, x, offset, weights[failed], zeros, steps=200, guarded=True)
    return beta


def _newton(labels, x, offset, weights, beta, steps: int, guarded: bool) -> np.ndarray:
    n, k = x.shape
    outer = (x[:, :, None] * x[:, None, :]).reshape(n, k * k)
    result = np.full_like(beta, np.nan)
    rows = np.arange(len(beta))  # the fits still running
    step, loss = np.zeros_like(beta), np.full(len(beta), np.inf)
    for _ in range(steps):
        eta = offset + (beta + step) @ x.T  # (B, N)
        accepted = np.ones(len(rows), bool)
        if guarded:
            new_loss = np.einsum("bn,bn->b", weights, np.logaddexp(0, eta) - labels * eta)
            accepted = new_loss <= loss + 1e-12 * np.abs(new_loss)
            loss = np.where(accepted, new_loss, loss)
        beta = np.where(accepted[:, None], beta + step, beta)
        tail = np.exp(-np.abs(eta))  # sigmoid and its slope by the tail, so that neither is rounded to 0
        p = np.where(eta < 0, tail, 1) / (1 + tail)
        gradient = (weights * (labels - p)) @ x
        hessian = ((weights * (tail / (1 + tail) ** 2)) @ outer).reshape(-1, k, k)
        solvable = np.linalg.det(hessian) > 0
        hessian[~solvable] = np.eye(k)  # the step is then along the gradient
        newton = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        step = np.where(accepted[:, None], newton, step / 2)
        gain = np.einsum("bk,bk->b", gradient, step)  # about twice what the step adds to the log-likelihood
        settled = (np.abs(step).max(1) < 1e-6) | (np.abs(gain) < 1e-15 * weights.sum(1))  # the next would be its square
        done = accepted & solvable & settled
        result[rows[done]] = (beta + step)[done]
        going = ~done & (solvable | guarded)
        if not going.any():
            break
        if not going.all():
            rows, weights, beta, step, loss = (a[going] for a in (rows, weights, beta, step, loss))
    return result
