"""Energy: E(rho), its velocity field and its first variation, from the forward pass and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.copies import Copyable
from wgflow.base.energy_balance import ROUNDING
from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index, Spec, Velocity
from wgflow.base.user_objects import is_builtin, recorded_spec
from wgflow.base.validate import check_instance, finite_array, numbers
from wgflow.kernels.ranks import Ranks
from wgflow.kernels.select import select
from wgflow.model import depth as depths
from wgflow.model import regularisers
from wgflow.model.depth import Depth, Network
from wgflow.model.particles import Particles
from wgflow.model.problem import TABLES, Problem, needs_own
from wgflow.model.regularisers import Regulariser

_QUERIES = 8192  # query points of the first variation per kernel call


class Energy(Copyable):
    """Energy E(rho) of a measure of residual blocks, with the exact adjoint of its discrete forward pass.

    Parameters
    ----------
    problem : Problem
        Data, block and loss.
    depth : Depth, str or dict, optional
        How particles become layers; ``Gaps()`` by default.
    backend : {"cpu", "gpu", "reference", "auto"}, optional
        Compiled kernels for the CPU or a CUDA device, or the plain NumPy definition; ``auto`` chooses between the
        first two, with a log message.
    dtype : {"float64", "float32"}, optional
        Precision of states, adjoints and sums over samples in compiled kernels; particles and velocities stay float64.
        Single precision is about twice as fast for wide states.
    regulariser : Regulariser, str or dict, optional
        A term int r(theta, s) rho added to the loss, which may depend on flow time s.
    threads : int, optional
        Threads of the kernels, >= 1; all cores by default. Results do not depend on it.
    comm : mpi4py.MPI.Intracomm, optional
        Processes that share the samples of every evaluation (extra ``mpi``), each with its share of the host's cores;
        results do not depend on how many there are. All of them make the same calls with the same arguments, as when a
        Flow runs on all of them; :meth:`predict` computes on the calling process alone. A copy of an energy has none.

    Raises
    ------
    InputError
        If a name is unknown or an option out of range.
    BackendError
        If the backend is not available.

    Notes
    -----
    dX/dt = int f(X, theta) rho(dtheta, t), E(rho) = mean_m loss(W1 X(x_m, 1), y_m), and
    dE/drho(theta, t) = mean_m f(X(x_m, t), theta) . p(x_m, t) with the adjoint p: Lu, Ma, Lu, Lu and Ying
    (arXiv:2003.05508), section 3.
    """

    def __init__(
        self,
        problem: Problem,
        depth: Depth | str | Spec | None = None,
        backend: str = "cpu",
        dtype: str = "float64",
        threads: int | None = None,
        regulariser: Regulariser | str | Spec | None = None,
        comm: Any = None,
    ) -> None:
        check_instance("problem", problem, Problem)
        self.problem = problem
        self.depth = depths.depth("gaps" if depth is None else depth)
        self.dtype = dtype
        self.regulariser = None if regulariser is None else regularisers.regulariser(regulariser)
        if self.regulariser is not None:
            regularisers.try_out(self.regulariser, problem.shape[3])
        self.kernel = select(backend, problem, threads, dtype, None if comm is None else Ranks(comm))
        self._threads, self._columns, self._own_depth = threads, problem.shape[3], not is_builtin(self.depth)
        self._last: tuple[Array, Array, Network, Depth] | None = None  # what the last evaluation was of

    def __repr__(self) -> str:
        samples, width = self.problem.shape[:2]
        return f"Energy(M={samples}, D={width}, depth={self.depth!r}, backend={self.backend})"

    def _attributes(self) -> dict[str, Any]:
        """Attributes, with the backend's name in place of the kernel: a copy builds its own."""
        return self.__dict__ | {"kernel": self.backend, "_last": None}

    def _restore(self, attributes: dict[str, Any]) -> None:
        super()._restore(attributes)
        self.kernel = select(attributes["kernel"], self.problem, self._threads, self.dtype)

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self.kernel.name

    def distribute(self, ranks: Ranks) -> None:
        """Share evaluations with other processes from now on; raises BackendError if the kernel cannot."""
        self.kernel = select(self.backend, self.problem, self._threads, self.dtype, ranks)

    @property
    def motion(self) -> Any:
        """The kernel's :mod:`wgflow.kernels.cpu.motion` if it has one that applies, else None."""
        return None if self._own_depth else getattr(self.kernel, "motion", None)

    def __call__(self, rho: Particles, batch: ArrayLike | None = None, s: float = 0.0) -> float:
        """E(rho) at flow time s, over all samples or those with row numbers ``batch``."""
        net = self.network(rho)
        return float(self.kernel.energy(net, rho.theta, self._batch(batch))) + self._penalty(net, rho.theta, s)

    def network(self, rho: Particles) -> Network:
        """Layers of a measure; raises InputError if the measure does not fit the problem or the scheme."""
        self._check(rho)
        return self.depth.network(rho)

    def network_energy(self, net: Network, theta: Array, s: float = 0.0) -> float:
        """Energy of given layers, e.g. those of an order that is no longer sorted."""
        return float(self.kernel.energy(net, theta)) + self._penalty(net, theta, s)

    def continued(self, rho: Particles, order: Index, s: float = 0.0) -> float:
        """E with the particles in a given order, (N,), which need not be that of their depths.

        In the order before an order switch this continues E smoothly past the jump.
        """
        self._check(rho)
        return self.network_energy(self.depth.continued(rho, order), rho.theta, s)

    def rounding(self, energy: float) -> float:
        """Change of E near a value ``energy`` that may be rounding.

        Errors of the outputs of relative size eps, times a residual of size sqrt(E): eps (E + sqrt(E E_0)), where E_0
        is the loss of outputs 0, times a factor of 8.
        """
        problem, size = self.problem, abs(energy)
        silent = abs(float(np.mean(problem.loss.value(np.zeros_like(problem.y), problem.y))))
        geometric = math.sqrt(size) * math.sqrt(silent)
        return ROUNDING[self.dtype] / 8 * (size + (geometric if math.isfinite(geometric) else 0.0))

    def velocity(self, rho: Particles, batch: ArrayLike | None = None, s: float = 0.0) -> Velocity:
        """Velocity of the gradient flow at rho.

        v_theta,i = -(1/mass_i) dE/dtheta_i and v_tau,i = -kappa_i dE/dtau_i, where the scheme defines kappa.

        Parameters
        ----------
        rho : Particles
            The measure.
        batch : array_like of int, optional
            Row numbers of the samples to use (a minibatch); all by default.
        s : float, optional
            Flow time, for a regulariser that depends on it.

        Returns
        -------
        Velocity
            With the energy at rho, and the dissipation sum_i mass_i |v_theta,i|**2 + v_tau,i**2 / kappa_i. If E depends
            on s, dE/ds of the flow is -dissipation + :meth:`rate_in_s`.

        Raises
        ------
        InputError
            If rho does not fit the problem or the scheme, or a row does not exist.
        """
        energy, v_theta, v_tau = self.field(rho, batch, s)
        return Velocity(v_theta, v_tau, energy, self.dissipation(rho, v_theta, v_tau))

    def field(
        self, rho: Particles, batch: ArrayLike | None = None, s: float = 0.0, order: Index | None = None
    ) -> tuple[float, Array, Array]:
        """Energy and velocities alone, (N, P) and (N,); arguments and errors as for :meth:`velocity`.

        With an ``order``, those of :meth:`continued`.
        """
        if order is None:
            net = self._network(rho)
        else:
            self._check(rho)
            net = self.depth.continued(rho, order)
        energy, first, slope = self._gradient(net, rho.theta, self._batch(batch), s)
        motion = self.motion
        if motion is None:
            return energy, *self.depth.velocity(rho, net, first, slope)
        return energy, *motion.velocity(net, self.depth.transpose(rho, net), first, slope, len(rho))

    def rate_in_s(self, rho: Particles, s: float) -> float:
        """Partial derivative of E in s at a fixed measure; 0 without a regulariser."""
        if self.regulariser is None:
            return 0.0
        rate = self.regulariser.rate(rho.theta, s)
        return float(self.weights(rho) @ rate) if rate.any() else 0.0

    def dissipation(self, rho: Particles, v_theta: Array, v_tau: Array) -> float:
        """Sum of mass_i |v_theta,i|**2 + v_tau,i**2 / kappa_i for any velocities (N, P), (N,)."""
        squares = np.einsum("np,np->n", v_theta, v_theta)
        return float(np.sum(rho.mass * squares) + np.sum(self.depth.inverse_tau_mobility(rho) * v_tau**2))

    def first_variation(self, rho: Particles, theta: ArrayLike, t: ArrayLike, s: float = 0.0) -> Array:
        """dE/drho at any points of Theta x [0, 1].

        Parameters
        ----------
        rho : Particles
            The measure at which to differentiate.
        theta : array_like (Q, P)
            Parameters.
        t : array_like (Q,)
            Depths in [0, 1].
        s : float, optional
            Flow time, for a regulariser that depends on it.

        Returns
        -------
        ndarray (Q,)
            sum_k S_k(t) mean_m f(X_k(x_m), theta) . p_(k+1)(x_m) with the scheme's shape functions S_k.

        Raises
        ------
        InputError
            If shapes do not fit or a depth is outside [0, 1].
        """
        return self.first_variation_gradient(rho, theta, t, s)[0]

    def pairings(self, rho: Particles, s: float = 0.0) -> Array:
        """dE/drho of each particle, (N,): at its depth, or the mean over the interval of depth in which it acts."""
        particle, t, share = self.depth.points(rho)
        value = self.first_variation(rho, rho.theta[particle], t, s)
        return np.bincount(particle, share * value, minlength=len(rho)).astype(np.float64)

    def first_variation_gradient(
        self, rho: Particles, theta: ArrayLike, t: ArrayLike, s: float = 0.0
    ) -> tuple[Array, Array, Array]:
        """dE/drho and its derivatives in theta and t; arguments as for :meth:`first_variation`.

        Returns
        -------
        value, by_theta, by_t : ndarray (Q,), (Q, P), (Q,)
            Under Gaps, Layers and Shallow dE/drho is constant in t between layers, and by_t is 0.
        """
        self._check(rho)
        theta, t = finite_array("theta", theta, 2), finite_array("t", t, 1)
        if len(t) != len(theta):
            raise InputError(f"t: expected {len(theta)} depths, one for each row of theta, got {len(t)}")
        if (t < 0).any() or (t > 1).any():
            raise InputError(f"t: expected depths in [0, 1], got {t[(t < 0) | (t > 1)][0]}")
        points = Particles(theta, t)
        self._check(points)
        network = self.depth.network(rho)
        value, by_theta, by_t = np.empty(len(points)), np.empty(points.theta.shape), np.empty(len(points))
        for low in range(0, len(points), _QUERIES):
            part = slice(low, low + _QUERIES)
            stencil = self.depth.sample(rho, points.tau[part])
            count, reach = stencil.layer.shape
            query = np.repeat(np.arange(count), reach)
            net, entry = network.with_queries(stencil.layer.ravel(), len(rho) + query)
            both = np.concatenate([rho.theta, points.theta[part]])
            _, first, slope = self._gradient(net, both, None, s)
            first, slope = first[entry].reshape(count, reach), slope[entry].reshape(count, reach, -1)
            value[part] = np.einsum("qr,qr->q", stencil.weight, first)
            by_theta[part] = np.einsum("qr,qrp->qp", stencil.weight, slope)
            by_t[part] = np.einsum("qr,qr->q", stencil.slope, first)
        return value, by_theta, by_t

    def predict(self, rho: Particles, x: ArrayLike) -> Array:
        """Outputs W1 X(1) of the network for inputs x (M, D_in), (M, K)."""
        return self.kernel.outputs(self.network(rho), rho.theta, self.problem.start(x))

    def weights(self, rho: Particles) -> Array:
        """Weight of each particle in integrals against rho, (N,): the gaps under Gaps, else the masses."""
        net = self.depth.network(rho)
        return np.bincount(net.particle, net.weight, minlength=len(rho)).astype(np.float64)

    def spec(self) -> Spec:
        """Plain JSON of everything that defines E, which excludes backend and threads."""
        depth, term = recorded_spec(self.depth, self.depth.spec(), depths.DEPTHS), None
        if self.regulariser is not None:
            term = recorded_spec(self.regulariser, self.regulariser.spec(), regularisers.REGULARISERS)
        return {"problem": self.problem.spec(), "depth": depth, "dtype": self.dtype, "regulariser": term}

    @classmethod
    def from_spec(
        cls,
        spec: Spec,
        data: Mapping[str, ArrayLike],
        backend: str = "cpu",
        threads: int | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> Energy:
        """Rebuild an energy from :meth:`spec` and the arrays of its problem.

        Parameters
        ----------
        spec, data : dict, mapping of str to array_like
            As for :meth:`Problem.from_spec`.
        backend, threads : optional
            As for the class.
        own : mapping of str to object, optional
            Objects of your own that it was built with, under ``"block"``, ``"activation"``, ``"loss"``, ``"depth"`` or
            ``"regulariser"``.
        """
        own = dict(own or {})
        tables = {"depth": depths.DEPTHS, "regulariser": regularisers.REGULARISERS}
        needs_own(spec, own, tables, others=TABLES)
        depth, term = own.pop("depth", spec["depth"]), own.pop("regulariser", spec["regulariser"])
        problem = Problem.from_spec(spec["problem"], data, own)
        return cls(problem, depth, backend, spec["dtype"], threads, term)

    def _network(self, rho: Particles) -> Network:
        """Layers of a measure: those of the last one if depths and masses are the same read-only arrays."""
        last = self._last
        if last is not None and last[0] is rho.tau and last[1] is rho.mass and last[3] is self.depth:
            self._check(rho)
            return last[2]
        net = self.network(rho)
        if not self._own_depth:
            self._last = rho.tau, rho.mass, net, self.depth
        return net

    def _gradient(self, net: Network, theta: Array, batch: Index | None, s: float) -> tuple[float, Array, Array]:
        """Gradient of the kernel plus the regulariser, whose first variation is r(theta, s) in every layer."""
        energy, first, slope = self.kernel.gradient(net, theta, batch)
        if self.regulariser is not None:
            first = first + self.regulariser.value(theta, s)[net.particle]
            slope = slope + self.regulariser.gradient(theta, s)[net.particle]
        return float(energy) + self._penalty(net, theta, s), first, slope

    def _penalty(self, net: Network, theta: Array, s: float) -> float:
        if self.regulariser is None:
            return 0.0
        return float(net.weight @ self.regulariser.value(theta, s)[net.particle])

    def _check(self, rho: Particles) -> None:
        check_instance("rho", rho, Particles)
        if rho.theta.shape[1] != self._columns:
            width = self.problem.shape[1]
            groups = ", ".join(f"{name} ({g.stop - g.start})" for name, g in self.problem.groups.items())
            raise InputError(
                f"theta: expected {self._columns} columns for block {self.problem.block.name!r} with D = {width}: "
                f"{groups}; got {rho.theta.shape[1]}"
            )
        if self._own_depth:
            depths.try_out(self.depth, rho)

    def _batch(self, batch: ArrayLike | None) -> Index | None:
        if batch is None:
            return None
        rows = numbers("batch", batch, "iu", "a non-empty list of row numbers")
        samples = len(self.problem.x)
        if rows.ndim != 1 or rows.size == 0:
            raise InputError(f"batch: expected a non-empty list of row numbers, got {rows.dtype} of shape {rows.shape}")
        if rows.min() < 0 or rows.max() >= samples:
            raise InputError(f"batch: expected rows in 0..{samples - 1}, got {rows.min()}..{rows.max()}")
        return rows.astype(np.int64)
