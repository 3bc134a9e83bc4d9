// Layer by layer, for wide layers and wide states: the library computes the products, these kernels what lies between.
// States and values are (rows, samples of a part of all samples), the units of one layer begin at `entry * units`.

// w, a, c w, c a, (count, D), and b, (count,), of the units of one layer; see `stack`.
KERNEL layer_parameters(const double* theta, Int parameters, const Int* particle, const double* weight,
                        const Int* table, Int units, Int width, Int entry, Int count, REAL* out_w, REAL* out_a,
                        REAL* out_cw, REAL* out_ca, REAL* out_bias)
{
    const Int columns = 2 * width + 1;
    EACH(t, count * width) {
        const Int unit = entry * units + t / width, d = t % width;
        const double *own = theta + particle[unit / units] * parameters, c = weight[unit / units];
        const Int* row = table + unit % units * columns;
        const double out = parameter(own, row[d]), in = parameter(own, row[width + d]);
        out_w[t] = REAL(in);
        out_a[t] = REAL(out);
        out_cw[t] = REAL(c * in);
        out_ca[t] = REAL(c * out);
        if (d == 0) out_bias[t / width] = REAL(parameter(own, row[2 * width]));
    }
}

// Columns from `low` on of the states at depth 0, or of the samples listed in `rows` if `some`.
KERNEL layer_start(const REAL* start, const Int* rows, Int some, Int all_samples, Int low, Int width, Int samples,
                   REAL* out_state)
{
    EACH(t, width * samples) {
        const Int at = low + t % samples;
        out_state[t] = start[t / samples * all_samples + (some ? rows[at] : at)];
    }
}

// sigma(z + b) in place of z for a piece of a row.
template <class Sigma>
DEVICE void activate_piece(int count, REAL shift, REAL eta, REAL* __restrict__ value, REAL* __restrict__ out_slope)
{
#pragma unroll 4
    EACH_HERE(m, count) {
        REAL slope = REAL(0);
        value[m] = Sigma::value(eta, value[m] + shift, slope);
        if (out_slope) out_slope[m] = slope;
    }
}

DEVICE void copy_piece(int count, const REAL* __restrict__ from, REAL* __restrict__ to)
{
#pragma unroll 4
    EACH_HERE(m, count) to[m] = from[m];
}

#define PIECE 1024  // of a row

// h = sigma(z + b) in place of z, (count, samples), and the slope if it is stored; and a copy of the state, of `width`
// rows or none.
KERNEL layer_activate(const REAL* bias, Int code, double eta, Int count, Int samples, Int keep, const REAL* state,
                      Int width, REAL* out_value, REAL* out_slope, REAL* out_state)
{
    const Int pieces = (samples + PIECE - 1) / PIECE;
    for (Int piece = BLOCK; piece < (count + width) * pieces; piece += BLOCKS) {
        const Int row = piece / pieces, low = piece % pieces * PIECE, at = row * samples + low;
        const int here = samples - low < PIECE ? int(samples - low) : PIECE;
        if (row >= count) {
            copy_piece(here, state + at - count * samples, out_state + at - count * samples);
            continue;
        }
        REAL* kept = keep ? out_slope + at : nullptr;
        WITH_ACTIVATION(code, Sigma, activate_piece<Sigma>(here, bias[row], REAL(eta), out_value + at, kept))
    }
}

// Outputs (K, all) from those of a part, (K, samples), the losses if asked for, and the gradients in place of the
// outputs.
KERNEL layer_losses(Int mode, Int loss, Int outputs, const REAL* target, const Int* rows, Int some, Int all_samples,
                    Int low, Int samples, Int total, REAL* made, REAL* out_output, double* out_loss)
{
    EACH(m, samples) {
        const Int at = low + m;
        for (Int k = 0; k < outputs; k++) out_output[k * total + at] = made[k * samples + m];
        if (mode != OUTPUTS)
            out_loss[at] = replace_by_gradient(int(loss), int(outputs), target + (some ? rows[at] : at), all_samples,
                                               made + m, samples);
    }
}

// r = q sigma' in place of q for a strided part of a row, and their sum.
DEVICE double pull_back(int code, Int from, Int samples, const REAL* __restrict__ h, const REAL* __restrict__ slope,
                        REAL* __restrict__ q)
{
    double sum = 0;
#pragma unroll 4
    for (Int m = from; m < samples; m += LANES) {
        q[m] *= slope_from(code, h[m], slope ? slope[m] : REAL(0));
        sum += double(q[m]);
    }
    return sum;
}

// r = q sigma' in place of q, (count, samples), and its sums over samples, (count,); a block a row.
KERNEL layer_pull_back(Int code, const REAL* value, const REAL* slope, Int keep, Int count, Int samples, REAL* out_q,
                       double* out_sum)
{
    SHARED(double, lane);
    for (Int row = BLOCK; row < count; row += BLOCKS) {
        const Int at = row * samples;
        const REAL* kept = keep ? slope + at : nullptr;
        EACH_HERE(i, LANES) lane[i] = pull_back(int(code), i, samples, value + at, kept, out_q + at);
        sum_lanes(lane, LANES);
        if (THREAD == 0) out_sum[row] = lane[0];
        BARRIER();  // the next row reuses the lanes
    }
}

// d_theta g of the entries of a layer, (E, P): means over `total` samples from the sums by unit d_a, d_w, (count, D),
// and d_b, (count,), added to what other parts of the samples gave if `add`.
KERNEL layer_slopes(const REAL* by_a, const REAL* by_w, const double* by_b, Int parameters, const Int* target, Int units,
                    Int width, Int entry, Int entries, Int total, Int add, double* out_slope)
{
    const int D = int(width), columns = 2 * D + 1;
    EACH(t, entries * parameters) {
        const Int e = t / parameters, p = t - e * parameters;
        const int place = int(target[p]), c = place % columns;
        const Int unit = e * units + place / columns;
        const double sum =
            c < D ? double(by_a[unit * D + c]) : c < 2 * D ? double(by_w[unit * D + c - D]) : by_b[unit];
        double* into = out_slope + entry * parameters + t;
        *into = sum / double(total) + (add ? *into : 0.0);
    }
}

// g = sum a . d_a g of the entries of a layer, (E,), likewise; a block an entry.
KERNEL layer_values(const REAL* by_a, const double* theta, Int parameters, const Int* particle, const Int* table,
                    Int units, Int width, Int entry, Int entries, Int total, Int add, double* out_value)
{
    SHARED(double, lane);
    const int D = int(width);
    for (Int e = BLOCK; e < entries; e += BLOCKS) {
        const double* own = theta + particle[entry + e] * parameters;
        const REAL* mine = by_a + e * units * D;
        EACH_HERE(i, ENTRY_LANES) {
            double sum = 0;
            for (int t = i; t < int(units) * D; t += ENTRY_LANES) {
                const Int place = table[t / D * (2 * D + 1) + t % D];
                if (place >= 0)
                    sum += own[place] * double(mine[t]);
                else if (place == ONE_HERE)
                    sum += double(mine[t]);
            }
            lane[i] = sum;
        }
        sum_lanes(lane, ENTRY_LANES);
        if (THREAD == 0) out_value[entry + e] = lane[0] / double(total) + (add ? out_value[entry + e] : 0.0);
        BARRIER();  // the next entry reuses the lanes
    }
}
