// Layer by layer, for wide layers and wide states: the products are the library's, here is what stands between them.
// States and values are (rows, samples of a part of all samples), the units of one layer are `entry * units` and on.

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

// Columns `low` and on of the states at depth 0, or of those that `rows` names if `some`.
KERNEL layer_start(const REAL* start, const Int* rows, Int some, Int all_samples, Int low, Int width, Int samples,
                   REAL* out_state)
{
    EACH(t, width * samples) {
        const Int at = low + t % samples;
        out_state[t] = start[t / samples * all_samples + (some ? rows[at] : at)];
    }
}

// sigma(z + b) in place of z for a piece of a row.
template <class Sigma> DEVICE void activate_piece(int count, REAL shift, REAL eta, REAL* value, REAL* out_slope)
{
#pragma unroll 4
    EACH_HERE(m, count) {
        REAL slope = REAL(0);
        value[m] = Sigma::value(eta, value[m] + shift, slope);
        if (out_slope) out_slope[m] = slope;
    }
}

#define PIECE 1024  // of a row

// h = sigma(z + b) in place of z, (count, samples), and the slope if it is kept.
KERNEL layer_activate(const REAL* bias, Int code, double eta, Int count, Int samples, Int keep, REAL* out_value,
                      REAL* out_slope)
{
    const Int pieces = (samples + PIECE - 1) / PIECE;
    for (Int piece = BLOCK; piece < count * pieces; piece += BLOCKS) {
        const Int row = piece / pieces, low = piece % pieces * PIECE, at = row * samples + low;
        const int here = samples - low < PIECE ? int(samples - low) : PIECE;
        REAL* kept = keep ? out_slope + at : nullptr;
        WITH_ACTIVATION(code, Sigma, activate_piece<Sigma>(here, bias[row], REAL(eta), out_value + at, kept))
    }
}

KERNEL layer_copy(const REAL* from, Int count, REAL* out_to) { EACH(t, count) out_to[t] = from[t]; }

// Outputs (K, all) from those of a part, (K, samples), the losses if asked for, and the gradients in place of the outputs.
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

// r = q sigma' in place of q for every so many of a row, and their sum.
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
        for (int half = LANES / 2; half > 0; half /= 2) {
            BARRIER();
            EACH_HERE(i, half) lane[i] += lane[i + half];
        }
        if (THREAD == 0) out_sum[row] = lane[0];
        BARRIER();  // the next row takes the lanes
    }
}

// Means over `total` samples for the entries of a layer, added to what other parts gave if `add`: d_theta g, (E, P), and
// g = sum a . d_a g, (E,), from the sums by unit d_a, d_w, (count, D), and d_b, (count,).
KERNEL layer_slopes(const REAL* by_a, const REAL* by_w, const double* by_b, const double* theta, Int parameters,
                    const Int* particle, const Int* table, const Int* target, Int units, Int width, Int entry,
                    Int entries, Int total, Int add, double* out_value, double* out_slope)
{
    const Int columns = 2 * width + 1;
    EACH(t, entries * (parameters + 1)) {
        const Int e = t / (parameters + 1), p = t % (parameters + 1);
        double sum = 0;
        if (p < parameters) {
            const Int unit = e * units + target[p] / columns, c = target[p] % columns;
            sum = c < width ? double(by_a[unit * width + c])
                            : c < 2 * width ? double(by_w[unit * width + c - width]) : by_b[unit];
        } else {
            const double* own = theta + particle[entry + e] * parameters;
            for (Int u = 0; u < units; u++)
                for (Int d = 0; d < width; d++) {
                    const double a = parameter(own, table[u * columns + d]);
                    if (a != 0) sum += a * double(by_a[(e * units + u) * width + d]);
                }
        }
        double* into = p < parameters ? out_slope + (entry + e) * parameters + p : out_value + entry + e;
        *into = sum / double(total) + (add ? *into : 0.0);
    }
}
