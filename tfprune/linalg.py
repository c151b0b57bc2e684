"""Linear algebra of layer-wise pruning: damped inverses, least squares, weights in greedy order.

Everything is about the quadratic form trace(dT gram d), the error that a change d of a kernel's
weights makes in the layer's output (`tfprune.statistics.gram`). Matrices are float64. A kernel is a
matrix (groups, rows, outputs) here: rows are what an output sums over, groups are multiplied apart.
"""

import numpy as np
import scipy.linalg

# Of the mean of the diagonal, as in SparseGPT.
DAMPING = 0.01

# Bytes that a step of the greedy removal goes through; a core's cache holds them.
_CACHE = 2**20


def matrix(array: np.ndarray, groups: int) -> np.ndarray:
    """Returns an array of canonical shape, (*spatial, inputs, outputs), as (groups, rows, outputs).

    `groups` is the length of a Gram matrix; `tfprune.graph.taps.matrix` does the same to tensors.
    """
    return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)


def unmatrix(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array (groups, rows, outputs) in canonical shape."""
    return array.swapaxes(0, 1).reshape(shape)


def damped(gram: np.ndarray, *, damping: float = DAMPING) -> np.ndarray:
    """Returns a Gram matrix, (rows, rows), with `damping` times its mean diagonal added to it.

    What is never active has no say: its diagonal is set to 1 where all of it is zero.
    """
    result = np.array(gram, np.float64)
    diagonal = np.einsum("ii->i", result)
    mean = diagonal.mean()
    diagonal += damping * mean if mean > 0 else 1.0
    return result


def inverse(gram: np.ndarray, *, damping: float = DAMPING) -> np.ndarray:
    """Returns the inverse of the damped Gram matrix, (rows, rows).

    Raises:
      ValueError: if it is singular, for which it takes a damping of 0 or so.
    """
    try:
        factor = scipy.linalg.cho_factor(damped(gram, damping=damping), lower=True)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"damping={damping}: the Gram matrix is singular with it; {DAMPING} is usual"
        ) from None
    return scipy.linalg.cho_solve(factor, np.eye(len(gram)), overwrite_b=True)


def inverses(gram: np.ndarray, *, damping: float = DAMPING) -> np.ndarray:
    """Returns the inverses of all groups' damped Gram matrices, (groups, rows, rows)."""
    return np.stack([inverse(matrix, damping=damping) for matrix in gram])


def shares(
    losses: np.ndarray, weight: np.ndarray, gram: np.ndarray, *, damping: float = DAMPING
) -> np.ndarray:
    """Returns errors over the error that a kernel's removal makes, the sum of wT H w / 2.

    Only so do errors of different layers compare: each is in the scale of its layer's output.

    Args:
      losses: (groups, rows, outputs).
      weight: the kernel in canonical layout.
      gram: (groups, rows, rows).
      damping: of the Gram matrix, which makes it H.

    Returns:
      One value a weight, in canonical layout.
    """
    parts = matrix(weight.astype(np.float64), len(gram))
    forms = np.stack([damped(form, damping=damping) for form in gram])
    whole = np.einsum("gko,gko->", parts, forms @ parts) / 2
    return unmatrix(losses, weight.shape) / (whole if whole > 0 else 1.0)


def refit(
    weight: np.ndarray, mask: np.ndarray, gram: np.ndarray, *, damping: float = DAMPING
) -> np.ndarray:
    """Returns `least_squares` of a kernel in canonical layout."""
    parts = (matrix(array, len(gram)) for array in (weight, mask))
    return unmatrix(least_squares(*parts, gram, damping=damping), weight.shape)


def least_squares(
    weight: np.ndarray, mask: np.ndarray, gram: np.ndarray, *, damping: float = DAMPING
) -> np.ndarray:
    """Returns the weights that come nearest to the layer's output with zeros where `mask` is False.

    For each output: w_k + (gram_kk)^-1 gram_kr w_r, k the rows that are kept and r those that are
    not. It is what the updates of Optimal Brain Surgeon (Hassibi & Stork 1993) for one weight after
    another come to in the end, -[H^-1]_:r ([H^-1]_rr)^-1 w_r.

    Args:
      weight: (groups, rows, outputs).
      mask: bool, of the same shape.
      gram: (groups, rows, rows).
      damping: of the Gram matrix.
    """
    result = np.where(mask, weight, 0.0).astype(np.float64)
    for group, form in enumerate(gram):
        whole = damped(form, damping=damping)
        # Outputs that keep the same rows are solved together.
        patterns, which = np.unique(mask[group].T, axis=0, return_inverse=True)
        for number, keep in enumerate(patterns):
            if keep.all() or not keep.any():
                continue
            columns = np.flatnonzero(which.ravel() == number)
            kept = whole[keep]
            right = kept[:, ~keep] @ weight[group][np.ix_(~keep, columns)]
            factor = scipy.linalg.cho_factor(kept[:, keep], overwrite_a=True, check_finite=False)
            change = scipy.linalg.cho_solve(factor, right, overwrite_b=True, check_finite=False)
            result[group][np.ix_(keep, columns)] += change
    return result


def fold(weight: np.ndarray, mask: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Returns a kernel in which each input that goes is made up for by the one that does it best.

    Of an input i all of whose weights W_i go, the kept j and the factor s are sought with the least
    || X_i W_i - s X_j W_i ||^2; then W_j becomes W_j + s W_i. X are the windows of an input that
    the layer sees, known by their products. An input that equals a kept one, or a multiple of it,
    goes without any change of the output.

    Args:
      weight: the kernel in canonical layout.
      mask: bool, of the same shape; where it is False there are zeros. Inputs some of whose weights
        stay are none that go, and outputs all of whose weights go have no say.
      gram: (groups, rows, rows); groups have their own inputs.
    """
    inputs = weight.shape[-2]
    rows, keep = (matrix(array, len(gram)) for array in (weight, mask))
    folded = np.where(keep, rows, 0.0)
    rows = rows * keep.any(axis=1, keepdims=True)
    for group, form in enumerate(gram):
        stays = keep[group].any(axis=1).reshape(-1, inputs).any(axis=0)
        kept, gone = np.flatnonzero(stays), np.flatnonzero(~stays)
        if not (len(kept) and len(gone)):
            continue
        parts = rows[group].reshape(-1, inputs, rows.shape[2])[:, gone]
        blocks = form.reshape(len(parts), inputs, len(parts), inputs)
        outer = np.einsum("sio,tio->ist", parts, parts, optimize=True)
        across = np.einsum("ist,sitj->ij", outer, blocks[:, gone][..., kept], optimize=True)
        own = np.einsum("ist,stj->ij", outer, np.einsum("sjtj->stj", blocks)[..., kept])
        factors = np.divide(across, own, out=np.zeros_like(own), where=own > 0)
        best = (factors * across).argmax(axis=1)  # what of the error it takes away
        added = parts * np.take_along_axis(factors, best[:, None], axis=1)
        places = folded[group].reshape(-1, inputs, rows.shape[2])
        np.add.at(places, (slice(None), kept[best]), added)
    return unmatrix(np.where(keep, folded, 0.0), weight.shape)


def joint_losses(weight: np.ndarray, units: np.ndarray, inverses: np.ndarray) -> np.ndarray:
    """Returns each weight's share of the least error that its unit's removal makes.

    That is w_ST ([H^-1]_SS)^-1 w_S / 2, S the unit's weights in one output, spread evenly over
    them: their sum over a unit is what removing it as a whole costs.

    Args:
      weight: (groups, rows, outputs).
      units: the number of each weight's unit, of the same shape.
      inverses: of the damped Gram matrices, (groups, rows, rows).
    """
    result = np.empty(weight.shape)
    for group, whole in enumerate(inverses):
        parts = [np.unique(labels, return_inverse=True)[1] for labels in units[group].T]
        # Outputs whose rows are parted alike are solved together.
        patterns, which = np.unique(parts, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            columns = np.flatnonzero(which.ravel() == number)
            for rows in (np.flatnonzero(pattern == i) for i in range(pattern.max() + 1)):
                w = weight[group][np.ix_(rows, columns)]
                solved = np.linalg.solve(whole[np.ix_(rows, rows)], w)
                losses = np.einsum("ro,ro->o", w, solved) / 2
                result[group][np.ix_(rows, columns)] = losses / len(rows)
    return result


def greedy_losses(
    weight: np.ndarray, inverses: np.ndarray, *, pattern: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns how high the error's increments rise until each weight goes, in greedy order.

    In each output by itself, the weight with the least w_q^2 / (2 [H^-1]_qq) goes, the others take
    over what they can, w - w_q / [H^-1]_qq [H^-1]_:q, and H^-1 becomes that of the weights that
    are left. A weight's value is the highest increment so far, and above all earlier ones of its
    output.

    The inverse is never updated as a whole: its Schur complement is H^-1 - FT F, a row of F for
    each weight that is gone, as in a pivoted Cholesky factorisation. A step then only reads F, of
    the columns that are left: a sixth of rows^3 numbers in all for an output.

    Args:
      weight: (groups, rows, outputs).
      inverses: of the damped Gram matrices, (groups, rows, rows).
      pattern: (n, m) if n of each m consecutive rows are the last to go.
    """
    groups, rows, outputs = weight.shape
    vectors = weight.swapaxes(1, 2).reshape(-1, rows)
    owner = np.repeat(np.arange(groups), outputs)
    size = max(1, _CACHE // (8 * rows * rows))
    parts = [slice(i, i + size) for i in range(0, len(vectors), size)]
    found = [_greedy(vectors[part], inverses, owner[part], pattern) for part in parts]
    return np.concatenate(found).reshape(groups, outputs, rows).swapaxes(1, 2)


def _greedy(
    vectors: np.ndarray, inverses: np.ndarray, owner: np.ndarray, pattern: tuple[int, int] | None
) -> np.ndarray:
    """Returns `greedy_losses` of some outputs, (outputs, rows); `owner` is their group."""
    w = vectors.astype(np.float64)
    count, size = w.shape
    every = np.arange(count)
    n, m = pattern or (0, size)
    room = np.full((count, size // m), m - n)
    result, highest = np.empty(w.shape), np.zeros(count)
    place = np.tile(np.arange(size), (count, 1))  # which weight stands in each column
    alive = np.ones(w.shape, bool)
    diagonal = np.einsum("gii->gi", inverses)[owner]
    factor = np.empty((count, size, size))
    for step in range(size):
        losses = np.full(w.shape, np.inf)
        np.divide(w * w, 2 * diagonal, out=losses, where=alive)
        if step < (m - n) * (size // m):
            losses[room[every[:, None], place // m] == 0] = np.inf
        j = losses.argmin(axis=1)
        weight = place[every, j]
        room[every, weight // m] -= 1
        highest = np.maximum(np.nextafter(highest, np.inf), losses[every, j])
        result[every, weight] = highest
        row = inverses[owner[:, None], weight[:, None], place]
        row -= np.matmul(factor[every, None, :step, j], factor[:, :step])[:, 0]
        root = np.sqrt(row[every, j])
        row /= root[:, None]
        factor[:, step] = row
        diagonal -= row * row
        w -= row * (w[every, j] / root)[:, None]
        alive[every, j] = False
        left = size - step - 1
        if left <= 0.75 * alive.shape[1]:
            order = np.argsort(~alive, axis=1, kind="stable")[:, :left]
            place, w, diagonal = (np.take_along_axis(a, order, 1) for a in (place, w, diagonal))
            alive = np.ones(w.shape, bool)
            narrow = np.empty((count, size, left))
            narrow[:, : step + 1] = np.take_along_axis(factor[:, : step + 1], order[:, None], 2)
            factor = narrow
    return result
