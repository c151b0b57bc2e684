"""`prune`: a pruned copy of a model."""

from collections.abc import Sequence

import keras

from tfprune import budgets, masks, registry, sharing, targets
from tfprune.batchnorm import reestimate_batchnorm
from tfprune.graph import kernels as k
from tfprune.planning import Recipe
from tfprune.tflite.variants import VARIANTS


def prune(
    model: keras.Model,
    target: str | targets.Target,
    *,
    criterion: object = "magnitude",
    granularity: object = "weight",
    allocation: object = "global",
    correction: str = "own",
    data: object = None,
    loss: object = None,
    rounds: int | None = None,
    protect: Sequence[str] = (),
    min_keep: int = 1,
    max_sparsity: float = 1.0,
    round_to: int = 1,
    seed: int = 0,
    variant: str = "float32",
    threads: int = 1,
    in_place: bool = False,
) -> keras.Model:
    """Returns a pruned copy of `model`: zeros in its kernels, and masks that keep them zero.

    Example:
      >>> pruned = tfprune.prune(model, "sparsity:0.8", allocation="erk")
      >>> pruned.fit(train, epochs=3)      # zeros stay zero
      >>> pruned.save("pruned.keras")      # a plain Keras file

    Args:
      model: a built Keras model; untouched unless `in_place`.
      target: `"sparsity:0.8"`, `"compression:10"`, `"params:0.5"`, `"macs:0.5"`, `"bytes:200k"`,
        `"latency:4ms"` or `"redundant"`, see `tfprune.targets`. It is met to within one unit
        ("uniform" rounds in each layer instead); of channels, on the smaller model that `shrink`
        makes.
      criterion: how much a unit matters: a name in `tfprune.criteria`, such as `"magnitude"`, a
        function of the same shape, or a module.
      granularity: what goes together: `"weight"`, `"block(4, 1)"`, `"n_m(2, 4)"`, `"filter"`, or
        `"channel"`, whose zeros `tfprune.shrink` removes.
      allocation: how layers share it: `"global"`, `"uniform"`, `"uniform_plus"`, `"erk"`, `"lamp"`,
        `"sensitivity"`.
      correction: what the weights that stay become: `"own"`, what the criterion says (most leave
        them as they are), `"least_squares"`, what changes each layer's output least, `"merge"` (of
        channels), with what read a removed one added to what reads its like, or `"none"`.
      data: calibration data, what `fit` takes: a tf.data.Dataset of batches, or a tuple of
        arrays; some hundred training examples (`train.take(16)`). All of them are read, batch by
        batch, by criteria and corrections that are computed from data. Batch-norm statistics are
        estimated again after pruning, and `"int8"` files calibrated; both are left out if None.
      loss: a Keras loss, its name, or a function (labels, outputs) -> one value an example, for
        criteria that ask for it; if None, the compiled one, else one that fits.
      rounds: scores are computed anew in so many rounds on the way to the target, each of which
        leaves the same share of what it finds; if None, what the criterion says, mostly 1.
      protect: names or glob patterns of layers to leave dense; of channels, those that they make.
      min_keep: how many units each kernel, or group of channels, keeps at least.
      max_sparsity: which share of its units each may lose at most.
      round_to: channels are kept in multiples of it, such as 8.
      seed: of random scores.
      variant: the kind of TFLite file whose bytes or latency the target counts, a name in
        `tfprune.tflite.variants`; other targets don't use it.
      threads: of LiteRT, for a target in latency; other targets don't use it.
      in_place: prune `model` itself, for a model that can't be cloned.

    Returns:
      The pruned model, compiled as `model` is.

    Raises:
      TypeError, ValueError: for a wrong word, a target that can't be met, NaN weights, a model
        that is not built or can't be cloned. The model is then unchanged.
    """
    if variant not in VARIANTS:
        raise registry.unknown("variant", variant, VARIANTS)
    recipe = Recipe.of(
        target,
        criterion=criterion,
        granularity=granularity,
        allocation=allocation,
        correction=correction,
        protect=protect,
        min_keep=min_keep,
        max_sparsity=max_sparsity,
        round_to=round_to,
        seed=seed,
    )
    if rounds is None:
        rounds = getattr(recipe.criterion.definition, "ROUNDS", 1)
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: one or more are needed")
    pruned = model if in_place else clone(model)
    plan = recipe.bind(pruned, data=data, loss=loss)
    level = plan.level
    if recipe.target is not None and recipe.target.measured:
        level = budgets.level(plan, variant=variant, threads=threads, data=data)
    elif recipe.target is not None and recipe.target.kind == targets.REDUNDANT:
        level = plan.redundancy(plan.scores())
    plan.check(level)
    for number in range(1, rounds + 1):
        # The last is exact: a layer's share may be just at the edge of one unit more.
        plan.apply(level if number == rounds else 1 - (1 - level) ** (number / rounds))
    if data is not None:
        reestimate_batchnorm(pruned, data)
    return pruned


def clone(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` with its weights, masks, shared weights and compilation.

    Raises:
      ValueError: for a subclassed model without a config to rebuild it from.
    """
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: call it once on data first")
    try:
        copy = keras.models.clone_model(model)
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}) can't be cloned: {error}\n"
            "Prune it itself with in_place=True, or while it trains with tfprune.Pruner, or give "
            "its class get_config() and from_config()."
        ) from error
    # A copy's paths may differ from the original's; the order of the weights does not.
    names = dict(zip(k.named(model), k.named(copy), strict=True))
    masks.attach(copy, {names[old]: held for old, held in masks.of(model).items()})
    sharing.attach(copy, {names[old]: shared for old, shared in sharing.of(model).items()})
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy
