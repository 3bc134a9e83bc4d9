// What a flow does to its particles between two gradients: velocities, steps, the boundary in depth, and sums over
// particles. All in double precision. Once the device status holds a failed step, nothing here changes a state any
// more.

#define TILE_ROWS 8    // particles of a tile
#define TILE_LANES 32  // threads that share a particle's columns
#define TILE (TILE_ROWS * TILE_LANES)
#define FOLD 256       // partial sums of a sum over tiles

// Device status: one array of doubles that the host reads (wgflow.flow.device_status).
#define FAILED_STEP 0 // step at which a number was not finite, -1 if there was none
#define REASON 1      // 1: the energy or a velocity at that step; 2: a particle in the step that began there
#define ESCAPED 2     // tiles with a particle that was not finite in the last trial step
#define CHANGED 3     // pairs of particles that changed order in the last trial step
#define ASKED 4       // up to four numbers computed for a step rule
#define STATES 8      // of both states: energy, dissipation, pairs that have changed order since the start
#define MADE 14       // length of the last trial step if the energy balance is measured, else 0
#define SPENT 15      // integral of the dissipation over it
#define RATES 16      // of both states: dE/ds at a fixed measure
#define BALANCE 18    // the sums of wgflow.base.energy_balance.EnergyBalance, in its order

DEVICE bool is_finite(double x) { return x - x == 0.0; }

// Sums of shares[quantity][row][lane] over lanes, then over rows: a tile's part, in an order independent of the launch.
DEVICE void sum_tile(Int quantities, const double* shares, double* rows, Int tile, Int tiles, bool fresh, double* out) {
    BARRIER();
    EACH_HERE(r, quantities * TILE_ROWS) {
        double sum = 0.0;
        for (int lane = 0; lane < TILE_LANES; ++lane) sum += shares[r * TILE_LANES + lane];
        rows[r] = sum;
    }
    BARRIER();
    EACH_HERE(q, quantities) {
        double sum = fresh ? 0.0 : out[q * tiles + tile];
        for (int r = 0; r < TILE_ROWS; ++r) sum += rows[q * TILE_ROWS + r];
        out[q * tiles + tile] = sum;
    }
}

// Sum over an array by one block: FOLD partial sums, then a binary tree over them.
template <class Number>
DEVICE Number fold(Int count, const Number* x, Number* shares) {
    BARRIER();
    EACH_HERE(j, FOLD) {
        Number sum = 0;
        for (Int i = j; i < count; i += FOLD) sum += x[i];
        shares[j] = sum;
    }
    for (Int half = FOLD / 2; half > 0; half /= 2) {
        BARRIER();
        EACH_HERE(j, half) shares[j] += shares[j + half];
    }
    BARRIER();
    return shares[0];
}

// Boundary condition in depth, [0, 1]: 0 clips, 1 reflects, 2 leaves it free (wgflow.model.particles.confine).
DEVICE double confine(double tau, Int boundary) {
    if (boundary == 0) return tau < 0.0 ? 0.0 : tau > 1.0 ? 1.0 : tau;
    if (boundary == 2) return tau;
    double folded = fmod(tau, 2.0);
    if (folded < 0.0) folded += 2.0;
    return folded > 1.0 ? 2.0 - folded : folded;
}

// The scheme's velocities with the boundary condition and mobility[P + 1], that of tau last, for stage `slot` of a
// step; for each tile the dissipation and the number of entries that are not finite, sums[slots][2][tiles]. shared: 2
// (TILE + TILE_ROWS) doubles.
template <class InTheta, class InTau>
DEVICE void velocities(Int count, Int parameters, InTheta in_theta, InTau in_tau, const double* tau, const double* mass,
                       const double* resistance, const double* mobility, Int clip, Int slot, double* v_theta,
                       double* v_tau, double* sums, double* shares) {
    v_theta += slot * count * parameters;
    v_tau += slot * count;
    const Int tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
    sums += slot * 2 * tiles;
    for (Int tile = BLOCK; tile < tiles; tile += BLOCKS) {
        EACH_HERE(task, TILE) {
            const Int i = tile * TILE_ROWS + task / TILE_LANES;
            double square = 0.0, strange = 0.0;
            for (Int p = task % TILE_LANES; i < count && p < parameters; p += TILE_LANES) {
                const double v = mobility[p] * in_theta(i, p);
                v_theta[i * parameters + p] = v;
                square += mobility[p] > 0.0 ? v * v / mobility[p] : v * v;
                if (!is_finite(v)) strange += 1.0;
            }
            if (i < count) square *= mass[i];
            if (i < count && task % TILE_LANES == 0) {
                double v = in_tau(i);
                if (clip && ((tau[i] <= 0.0 && v < 0.0) || (tau[i] >= 1.0 && v > 0.0))) v = 0.0;
                const double factor = mobility[parameters];
                v *= factor;
                v_tau[i] = v;
                square += resistance[i] * (factor > 0.0 ? v * v / factor : v * v);
                if (!is_finite(v)) strange += 1.0;
            }
            shares[task] = square;
            shares[TILE + task] = strange;
        }
        sum_tile(2, shares, shares + 2 * TILE, tile, tiles, true, sums);
    }
}

// Under Gaps: v_theta = -(gap / mass) d_theta g, v_tau = -mass (g_l - g_(l+1)).
KERNEL velocity_gaps(Int count, Int parameters, const Int* rank, const double* gap, const double* value,
                     const double* slope, const double* tau, const double* mass, const double* resistance,
                     const double* mobility, Int clip, Int slot, double* v_theta, double* v_tau, double* sums) {
    SHARED(double, shares);
    const auto in_theta = [=](Int i, Int p) { return -(gap[rank[i]] / mass[i]) * slope[rank[i] * parameters + p]; };
    const auto in_tau = [=](Int i) {
        const Int place = rank[i];
        return -mass[i] * (value[place] - (place + 1 < count ? value[place + 1] : 0.0));
    };
    velocities(count, parameters, in_theta, in_tau, tau, mass, resistance, mobility, clip, slot, v_theta, v_tau,
               sums, shares);
}

// Where a particle's mass is shared by `reach` layers: v_theta = -sum_k S_k d_theta g, v_tau = -sum_k S_k' g; with one
// layer, nothing moves in depth.
KERNEL velocity_layers(Int count, Int parameters, Int reach, const Int* place, const double* share,
                       const double* share_slope, const double* value, const double* slope, const double* tau,
                       const double* mass, const double* resistance, const double* mobility, Int clip, Int slot,
                       double* v_theta, double* v_tau, double* sums) {
    SHARED(double, shares);
    const auto in_theta = [=](Int i, Int p) {
        if (reach == 1) return -slope[place[i] * parameters + p];
        double sum = 0.0;
        for (Int e = i * reach; e < (i + 1) * reach; ++e) sum += share[e] * slope[place[e] * parameters + p];
        return -sum;
    };
    const auto in_tau = [=](Int i) {
        double sum = 0.0;
        for (Int e = i * reach; reach > 1 && e < (i + 1) * reach; ++e) sum += share_slope[e] * value[place[e]];
        return -sum;
    };
    velocities(count, parameters, in_theta, in_tau, tau, mass, resistance, mobility, clip, slot, v_theta, v_tau,
               sums, shares);
}

// The quadratic regulariser factor |theta|**2: added to value and slope of every entry if `gradient`, and each tile's
// part of sum_e weight_e r_e. shared: TILE + TILE_ROWS doubles.
KERNEL regularise(Int entries, Int parameters, const Int* particle, const double* weight, const double* theta,
                  double factor, Int gradient, double* value, double* slope, double* sums) {
    SHARED(double, shares);
    double* rows = shares + TILE;
    const Int tiles = (entries + TILE_ROWS - 1) / TILE_ROWS;
    for (Int tile = BLOCK; tile < tiles; tile += BLOCKS) {
        EACH_HERE(task, TILE) {
            const Int e = tile * TILE_ROWS + task / TILE_LANES;
            double square = 0.0;
            for (Int p = task % TILE_LANES; e < entries && p < parameters; p += TILE_LANES) {
                const double x = theta[particle[e] * parameters + p];
                square += x * x;
                if (gradient) slope[e * parameters + p] += 2.0 * factor * x;
            }
            shares[task] = square;
        }
        BARRIER();
        EACH_HERE(r, TILE_ROWS) {
            const Int e = tile * TILE_ROWS + r;
            double sum = 0.0;
            for (int lane = 0; lane < TILE_LANES; ++lane) sum += shares[r * TILE_LANES + lane];
            if (e < entries && gradient) value[e] += factor * sum;
            rows[r] = e < entries ? weight[e] * (factor * sum) : 0.0;
        }
        BARRIER();
        if (THREAD == 0) {
            double sum = 0.0;
            for (int r = 0; r < TILE_ROWS; ++r) sum += rows[r];
            sums[tile] = sum;
        }
    }
}

// Add the step that led to a state to the energy balance: wgflow.base.energy_balance.EnergyBalance.after.
DEVICE void add_step(double s, Int state, double rounding, double* status) {
    double* sums = status + BALANCE;
    const double* before = status + STATES + 3 * (1 - state);
    const double* here = status + STATES + 3 * state;
    const double change = here[0] - before[0] - 0.5 * status[MADE] * (status[RATES] + status[RATES + 1]);
    const double defect = fabs(change + status[SPENT]);
    const double allowed = rounding * fmax(fmax(fabs(before[0]), fabs(here[0])), sums[1]);
    sums[0] += 1.0;
    sums[1] += fabs(change);
    sums[2] += status[SPENT];
    if (here[2] > before[2]) {
        sums[8] += 1.0;
        sums[9] += defect;
        sums[10] += change > 0.0 ? change : 0.0;
        return;
    }
    sums[3] += defect;
    if (!(change > allowed)) return;
    sums[4] += 1.0;
    if (change > sums[5]) {
        sums[5] = change;
        sums[6] = s;
    }
    sums[7] += change;
}

// After a velocity at a state: a particle that was not finite in the previous step, or a number that is not finite
// here, makes it a failed step; otherwise, if `keep`, energy and dissipation go into the status and the previous step
// into the energy balance, where the penalty times `fading` is dE/ds at a fixed measure. One block. shared: FOLD
// doubles.
KERNEL judge_velocity(Int step, double s, Int state, Int keep, const double* energy, Int penalties,
                      const double* penalty, double fading, double rounding, Int tiles, const double* sums,
                      double* status) {
    SHARED(double, shares);
    if (status[FAILED_STEP] >= 0.0) return;
    const double dissipation = fold(tiles, sums, shares);
    const double strange = fold(tiles, sums + tiles, shares);
    const double added = penalties ? fold(penalties, penalty, shares) : 0.0;
    const double total = energy[0] + added;
    if (THREAD != 0) return;
    if (status[ESCAPED] > 0.0) {
        status[REASON] = 2.0;
        status[FAILED_STEP] = (double)(step - 1);
    } else if (strange > 0.0 || !is_finite(total)) {
        status[REASON] = 1.0;
        status[FAILED_STEP] = (double)step;
    } else if (keep) {
        status[STATES + 3 * state] = total;
        status[STATES + 3 * state + 1] = dissipation;
        status[RATES + state] = fading * added;
        if (status[MADE] > 0.0) add_step(s, state, rounding, status);
    }
}

// Energy alone, with the regulariser. One block. shared: FOLD doubles.
KERNEL judge_energy(const double* energy, Int penalties, const double* penalty, double* status) {
    SHARED(double, shares);
    const double total = energy[0] + (penalties ? fold(penalties, penalty, shares) : 0.0);
    if (THREAD == 0) status[ASKED] = total;
}

// (theta, tau) + h sum_j weights_j v_j, with the boundary condition in depth. An entry that would not be finite keeps
// its value and is counted, strange[tiles], so that states are always finite. shared: TILE + TILE_ROWS doubles.
KERNEL move_particles(Int count, Int parameters, Int stages, const double* weights, double h, const double* theta,
                      const double* tau, const double* v_theta, const double* v_tau, Int boundary, Int fresh,
                      const double* status, double* out_theta, double* out_tau, double* strange) {
    SHARED(double, shares);
    if (status[FAILED_STEP] >= 0.0) return;
    const Int tiles = (count + TILE_ROWS - 1) / TILE_ROWS, all = count * parameters;
    for (Int tile = BLOCK; tile < tiles; tile += BLOCKS) {
        EACH_HERE(task, TILE) {
            const Int i = tile * TILE_ROWS + task / TILE_LANES;
            double found = 0.0;
            for (Int p = task % TILE_LANES; i < count && p < parameters; p += TILE_LANES) {
                const Int at = i * parameters + p;
                double x = theta[at];
                for (Int j = 0; j < stages; ++j)
                    if (weights[j] != 0.0) x = (h * weights[j]) * v_theta[j * all + at] + x;
                if (!is_finite(x)) found += 1.0;
                out_theta[at] = is_finite(x) ? x : theta[at];
            }
            if (i < count && task % TILE_LANES == 0) {
                double x = tau[i];
                for (Int j = 0; j < stages; ++j)
                    if (weights[j] != 0.0) x = (h * weights[j]) * v_tau[j * count + i] + x;
                if (!is_finite(x)) found += 1.0;
                out_tau[i] = is_finite(x) ? confine(x, boundary) : tau[i];
            }
            shares[task] = found;
        }
        sum_tile(1, shares, shares + TILE, tile, tiles, fresh != 0, strange);
    }
}

// After a trial step from one state to the other: particles that were not finite, pairs that changed order and, if h >
// 0, the integral of the dissipation by the method's own quadrature over its stages. One block. shared: FOLD doubles.
KERNEL judge_step(Int tiles, const double* strange, Int count, const Int* inverted, double h, Int stages,
                  const double* weights, const double* sums, Int from, Int to, double* status) {
    SHARED(double, shares);
    if (status[FAILED_STEP] >= 0.0) return;
    const double escaped = fold(tiles, strange, shares);
    const Int changed = count ? fold(count, inverted, reinterpret_cast<Int*>(shares)) : 0;
    double mean = 0.0;
    for (Int j = 0; j < stages && h > 0.0; ++j)
        if (weights[j] != 0.0) mean += weights[j] * fold(tiles, sums + 2 * j * tiles, shares);
    if (THREAD != 0) return;
    status[MADE] = h;
    status[SPENT] = h * mean;
    status[ESCAPED] = escaped;
    status[CHANGED] = (double)changed;
    status[STATES + 3 * to + 2] = status[STATES + 3 * from + 2] + (double)changed;
}

// sums[3][tiles] of mass (|theta|**2 + tau**2) for the difference of two solutions and for the states before and after
// a step. shared: 3 (TILE + TILE_ROWS) doubles.
KERNEL compare_states(Int count, Int parameters, const double* mass, const double* theta, const double* tau,
                      const double* end_theta, const double* end_tau, const double* low_theta, const double* low_tau,
                      double* sums) {
    SHARED(double, shares);
    const Int tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
    for (Int tile = BLOCK; tile < tiles; tile += BLOCKS) {
        EACH_HERE(task, TILE) {
            const Int i = tile * TILE_ROWS + task / TILE_LANES;
            double error = 0.0, before = 0.0, after = 0.0;
            for (Int p = task % TILE_LANES; i < count && p <= parameters; p += TILE_LANES) {
                const Int at = p < parameters ? i * parameters + p : i;  // tau is the last column
                const double a = p < parameters ? theta[at] : tau[at];
                const double b = p < parameters ? end_theta[at] : end_tau[at];
                const double c = p < parameters ? low_theta[at] : low_tau[at];
                error += (b - c) * (b - c);
                before += a * a;
                after += b * b;
            }
            const double share = i < count ? mass[i] : 0.0;
            shares[task] = share * error;
            shares[TILE + task] = share * before;
            shares[2 * TILE + task] = share * after;
        }
        sum_tile(3, shares, shares + 3 * TILE, tile, tiles, true, sums);
    }
}

// Their sums, and the particles that were not finite in the solution of lower order as well. One block. shared: FOLD
// doubles.
KERNEL judge_error(Int tiles, const double* sums, const double* strange, double* status) {
    SHARED(double, shares);
    if (status[FAILED_STEP] >= 0.0) return;
    for (Int q = 0; q < 3; ++q) {
        const double sum = fold(tiles, sums + q * tiles, shares);
        if (THREAD == 0) status[ASKED + q] = sum;
    }
    const double escaped = fold(tiles, strange, shares);
    if (THREAD == 0) status[ASKED + 3] = escaped;
}
