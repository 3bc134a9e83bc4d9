"""Several Euler steps in one compiled call, for problems so small that calls from Python take longer than the work.

Each step calls the same compiled functions as :mod:`wgflow.kernels.cpu.grouped` and :mod:`wgflow.kernels.cpu.motion`,
through their addresses: nothing is compiled twice, and results have the same bits as those of single steps.
"""

from __future__ import annotations

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from wgflow.kernels.cpu.flags import EXACT

STACK, PASS, FINISH, ZERO = 1, 2, 4, 0  # stages of an evaluation
_TABLE = 12  # place of the table of groups among the arguments of the model
_LEAF = EXACT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@intrinsic
def call(typing, address, arguments):
    """Call a compiled function that returns nothing, at an address, with a tuple of its arguments."""

    def generate(context, builder, signature, values):
        kinds, convention = list(signature.args[1]), context.call_conv
        function = builder.inttoptr(values[0], convention.get_function_type(types.none, kinds).as_pointer())
        convention.call_function(builder, function, types.none, kinds, cgutils.unpack_tuple(builder, values[1]))
        return context.get_dummy_value()

    return types.void(address, types.Tuple(tuple(map(types.unliteral, arguments)))), generate


@njit(**_LEAF)
def _sort(tau, order):
    """Sort the particles by depth, ties by index, from nearly sorted; returns the pairs that changed places."""
    switched = 0
    for k in range(1, order.size):
        particle = order[k]
        t, place = tau[particle], k
        while place > 0 and (tau[order[place - 1]] > t or (tau[order[place - 1]] == t and order[place - 1] > particle)):
            order[place] = order[place - 1]
            place -= 1
        order[place] = particle
        switched += k - place
    return switched


@njit(**_LEAF)
def _weigh_by_gaps(tau, mass, order, out_weight, out_by_theta, out_by_tau):
    """Weights of the layers, and factors of the velocities: see :class:`wgflow.model.depth.Gaps`."""
    before = 0.0
    for k in range(order.size):
        particle = order[k]
        out_weight[k] = tau[particle] if k == 0 else tau[particle] - before
        out_by_theta[k] = out_weight[k] / mass[particle]
        out_by_tau[k] = mass[particle]
        before = tau[particle]


@njit(**EXACT)
def euler_steps(addresses, chunk, gaps, moves, clip, h, network, model, velocity, factors, places, spare, results):
    """Take steps until the arrays of results are full or a place is not finite; the number of steps into taken, (1,).

    Parameters
    ----------
    addresses : tuple of int
        Of evaluate, gather, dissipate and move.
    chunk : int
        Samples of a chunk.
    gaps, moves, clip : bool
        Whether the layers follow the order of the depths; whether depths move; whether they stop at 0 and 1.
    h : float
        Step length.
    network : tuple
        Bounds of the layers, particles (in the order of their depths under Gaps), weights.
    model : tuple
        Further arguments of :func:`wgflow.kernels.cpu.evaluate.evaluate`, from ``width`` on.
    velocity : tuple
        Factors by entry in v_theta and v_tau, and whether the latter has differences, as in
        :class:`wgflow.model.depth.Transpose`.
    factors : tuple
        Masses; 1/kappa; factors by column in the dissipation; mobilities by column and in depth, (P,) and (1,), or
        none, (0,).
    places : tuple
        Parameters, depths and velocities of the state, (N, P), (N,), (N, P), (N,), which are moved.
    spare : tuple
        Flat views of parameters and their velocities; arrays to work in, (N P,), (N,), (N,), (1,); empty arrays of
        float64 and int64; bool (2,).
    results : tuple
        Outputs, (steps, M, K); dissipations and pairs that changed places, (steps,); the number of steps taken, (1,).
    """
    evaluate, gather, dissipate, move = addresses
    first, order, weight = network
    by_theta, by_tau, difference = velocity
    mass, per_kappa, by_column, mobility, mobility_in_depth = factors
    theta, tau, v_theta, v_tau = places
    flat, flat_velocity, next_theta, next_tau, raw, total, none, no_order, found = spare
    outputs, dissipations, switched, taken = results
    output, value, slope = model[-3], model[-2], model[-1]
    before, after = (tau, next_tau) if moves else (none, none)
    groups, samples = model[_TABLE].shape[0], outputs.shape[1]
    taken[0] = 0
    for k in range(outputs.shape[0]):
        call(move, (flat, before, no_order, flat_velocity, v_tau, h, clip, next_theta, after, found))
        if found[0]:
            return
        for i in range(flat.size):
            flat[i] = next_theta[i]
        for i in range(after.size):
            tau[i] = after[i]
        if gaps:
            switched[k] = _sort(tau, order)
            _weigh_by_gaps(tau, mass, order, weight, by_theta, by_tau)
        # Numba knows sums of tuples only.
        rest = (first, order, weight, theta) + model  # noqa: RUF005
        call(evaluate, (STACK, ZERO, groups, ZERO, ZERO, ZERO) + rest)  # noqa: RUF005
        for low in range(0, samples, chunk):
            call(evaluate, (PASS, ZERO, ZERO, low, min(low + chunk, samples), low // chunk) + rest)  # noqa: RUF005
        call(evaluate, (FINISH, ZERO, groups, ZERO, ZERO, ZERO) + rest)  # noqa: RUF005
        for m in range(samples):
            for j in range(output.shape[1]):
                outputs[k, m, j] = output[m, j]
        call(gather, (order, by_theta, by_tau, difference, value, slope, v_theta, raw))
        for p in range(mobility.size):
            for i in range(v_theta.shape[0]):
                v_theta[i, p] *= mobility[p]
        if mobility.size > 0:
            for i in range(raw.size):
                raw[i] *= mobility_in_depth[0]
        call(dissipate, (tau, mass, per_kappa, by_column, clip, v_theta, raw, v_tau, total))
        dissipations[k] = total[0]
        taken[0] = k + 1
