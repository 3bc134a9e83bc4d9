// Before and after the pass: parameters stacked by group, and gradients from the sums of all blocks.
//
// A particle's block is `units` ridge units. Row h of `table`, (units, 2 D + 1), says where [a | w | b] of unit h come
// from: a column of theta, or the constants below. `target` (P,) is its inverse: the place in the table of a column.

#define ZERO_HERE (-1)
#define ONE_HERE (-2)

DEVICE double parameter(const double* particle, Int place)
{
    return place >= 0 ? particle[place] : place == ONE_HERE ? 1.0 : 0.0;
}

// Of each group w and a transposed, (D', G); c w and c a, (G, D'); bias, (G,); and the triangles (G, G), row l for the
// effect of unit l on the others: `below` c_l (w_j . a_l) for the later layers j, `above` c_l (w_l . a_j) for the
// earlier ones. Zeros pad. `layer` (entries,) is the layer of each.
KERNEL stack(const double* theta, Int parameters, const Int* particle, const double* weight, const Int* layer,
             const Int* table, Int units, Int width, Int padded, Int group_size, const Int* groups, Int group_count,
             REAL* out_w, REAL* out_a, REAL* out_cw, REAL* out_ca, REAL* out_bias, REAL* out_below, REAL* out_above)
{
    const int D = int(padded), G = int(group_size), H = int(units), columns = 2 * int(width) + 1;
    for (Int g = BLOCK; g < group_count; g += BLOCKS) {
        const int entry = int(groups[g * FIELDS + ENTRY]), count = int(groups[g * FIELDS + COUNT]);
        REAL *w = out_w + g * D * G, *a = out_a + g * D * G;
        EACH_HERE(t, G * D) {
            const int i = t / D, d = t % D, e = (entry + i) / H;
            const bool there = i < count && d < width;
            const double* own = there ? theta + particle[e] * parameters : nullptr;
            const Int* row = table + (entry + i) % H * columns;
            const double c = there ? weight[e] : 0.0;
            const double out = there ? parameter(own, row[d]) : 0.0, in = there ? parameter(own, row[width + d]) : 0.0;
            w[d * G + i] = REAL(in);
            a[d * G + i] = REAL(out);
            out_cw[g * D * G + t] = REAL(c * in);
            out_ca[g * D * G + t] = REAL(c * out);
        }
        EACH_HERE(i, G) {
            const int unit = entry + i;
            const double* own = i < count ? theta + particle[unit / H] * parameters : nullptr;
            out_bias[g * G + i] = own ? REAL(parameter(own, table[unit % H * columns + 2 * width])) : REAL(0);
        }
        if (!(groups[g * FIELDS + FLAG] & TRIANGLE)) continue;
        BARRIER();
        EACH_HERE(t, G * G) {
            const int k = t / G, j = t % G;
            double dot = 0;
            if (k < count && j < count && layer[(entry + k) / H] != layer[(entry + j) / H]) {
                const REAL *in = w + (k < j ? j : k), *out = a + (k < j ? k : j);
#pragma unroll 4
                for (int d = 0; d < int(width); d++) dot += double(in[d * G]) * double(out[d * G]);
                dot *= weight[(entry + k) / H];
            }
            out_below[g * G * G + t] = REAL(k < j ? dot : 0.0);
            out_above[g * G * G + t] = REAL(k < j ? 0.0 : dot);
        }
    }
}

// Sums over the blocks of a pass, in their order.
KERNEL add_blocks(const REAL* parts, Int blocks, Int size, double* out_total)
{
    EACH(t, size) {
        double sum = 0;
        for (Int block = 0; block < blocks; block++) sum += double(parts[block * size + t]);
        out_total[t] = sum;
    }
}

// Sum over samples in the derivative of g by number `column` of [a | w | b] of a unit, with the triangle's
// contribution.
DEVICE double unit_sum(const double* total, const Int* group, Int g, const Int* layer, int units, int unit, int column,
                       int width, int D, int G, const REAL* cw, const REAL* ca)
{
    const int columns = 2 * D + G + 4, entry = int(group[ENTRY]), count = int(group[COUNT]), i = unit - entry;
    const double *rows = total + group[SLOT] * columns, *row = rows + i * columns;
    if (column == 2 * width) return row[2 * D + G];
    const bool triangle = group[FLAG] & TRIANGLE;
    double sum = column < width ? row[column] : row[D + column - width];
    if (!triangle) return sum;
    const Int own = layer[unit / units];
    if (column < width) {
        for (int k = i + 1; k < count; k++)
            if (layer[(entry + k) / units] != own) sum += row[2 * D + k] * double(cw[(g * G + k) * D + column]);
    } else {
        for (int k = 0; k < i; k++)
            if (layer[(entry + k) / units] != own)
                sum += rows[k * columns + 2 * D + i] * double(ca[(g * G + k) * D + column - width]);
    }
    return sum;
}

// d_theta g, (entries, P), means over samples. `group_of` (entries * units,) is the group of each unit.
KERNEL slopes(const double* total, Int entries, Int samples, const Int* groups, const Int* group_of, const Int* layer,
              const Int* target, Int parameters, Int units, Int width, Int padded, Int group_size, const REAL* cw,
              const REAL* ca, double* out_slope)
{
    const int columns = 2 * int(width) + 1;
    EACH(t, entries * parameters) {
        const int place = int(target[t % parameters]), unit = int(t / parameters * units) + place / columns;
        const Int g = group_of[unit];
        out_slope[t] = unit_sum(total, groups + g * FIELDS, g, layer, int(units), unit, place % columns, int(width),
                                int(padded), int(group_size), cw, ca) /
                       double(samples);
    }
}

// Sum over lanes along a fixed binary tree, in lane[0] for thread 0; `lanes` is a power of two.
DEVICE void sum_lanes(double* lane, int lanes)
{
    for (int half = lanes / 2; half > 0; half /= 2) {
        BARRIER();
        EACH_HERE(i, half) lane[i] += lane[i + half];
    }
}

#define ENTRY_LANES 64

// g_e = sum a . d_a g over the units of an entry: g is linear in a. A block an entry.
KERNEL values(const double* total, Int entries, Int samples, const Int* groups, const Int* group_of, const Int* layer,
              const Int* table, const double* theta, const Int* particle, Int parameters, Int units, Int width,
              Int padded, Int group_size, const REAL* cw, const REAL* ca, const double* slope, double* out_value)
{
    SHARED(double, lane);
    const int D = int(width);
    for (Int e = BLOCK; e < entries; e += BLOCKS) {
        const double* own = theta + particle[e] * parameters;
        EACH_HERE(i, ENTRY_LANES) {
            double sum = 0;
            for (int t = i; t < int(units) * D; t += ENTRY_LANES) {
                const int u = t / D, d = t % D, unit = int(e * units) + u;
                const Int place = table[u * (2 * D + 1) + d], g = group_of[unit];
                if (place >= 0)
                    sum += own[place] * slope[e * parameters + place];
                else if (place == ONE_HERE)
                    sum += unit_sum(total, groups + g * FIELDS, g, layer, int(units), unit, d, D, int(padded),
                                    int(group_size), cw, ca) /
                           double(samples);
            }
            lane[i] = sum;
        }
        sum_lanes(lane, ENTRY_LANES);
        if (THREAD == 0) out_value[e] = lane[0];
        BARRIER();  // the next entry reuses the lanes
    }
}

#define LANES 256

// Mean of `count` numbers along a fixed binary tree; one block.
KERNEL mean(const double* numbers, Int count, double* out_mean)
{
    SHARED(double, lane);
    EACH_HERE(i, LANES) {
        double sum = 0;
        for (Int t = i; t < count; t += LANES) sum += numbers[t];
        lane[i] = sum;
    }
    sum_lanes(lane, LANES);
    if (THREAD == 0) out_mean[0] = lane[0] / double(count);
}
