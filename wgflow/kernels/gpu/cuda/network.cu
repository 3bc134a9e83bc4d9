// Forward and backward pass of a network of ridge units a sigma(w . x + b), in one launch.
//
// A block of threads keeps a tile of samples in shared memory and passes through all groups of units in sequence, first
// forwards, then backwards. A group is up to G consecutive units: several whole layers, or a piece of one wide layer.
// With layers k(i) and weights c,
//
//     z_i = w_i . X + b_i + sum_(k(l) < k(i)) c_l (w_i . a_l) h_l,     X <- X + sum_i c_i a_i h_i,
//     q_i = a_i . p + sum_(k(l) > k(i)) c_l (w_l . a_i) r_l,  r = q sigma'(z),     p <- p + sum_i c_i w_i r_i:
//
// exactly the sequence of layers, as matrix products and one small triangle per sample. X at the start of every group
// and all h are stored on a tape, one for each block of threads and reused for its next tile: memory does not grow with
// M.

// Columns of the table of groups, and flags: several layers; first piece of its layer; last piece.
#define ENTRY 0
#define COUNT 1
#define SLOT 2
#define SLOTS 3
#define STATE 4
#define FLAG 5
#define FIELDS 6
#define TRIANGLE 1
#define OPENS 2
#define CLOSES 4
#define CHUNK 8  // rows of the triangle that one thread holds in registers; slots come in multiples of it

// value[i] += sum_k triangle[k][i] x[k] over `count` rows, a multiple of CHUNK, in their order.
DEVICE void add_rows(const REAL* triangle, int group, const REAL* x, int stride, int count, REAL (&value)[CHUNK])
{
    for (int done = 0; done < count; done += CHUNK) {
#pragma unroll
        for (int k = 0; k < CHUNK; k++, triangle += group, x += stride) {
            const REAL factor = *x;
            const Four low = four(triangle), high = four(triangle + 4);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                value[i] += low.v[i] * factor;
                value[4 + i] += high.v[i] * factor;
            }
        }
    }
}

// h in place of the products w . X in `z`, row by row, in a group whose later units depend on the earlier ones.
template <class Sigma>
DEVICE void forward_triangle(const REAL* triangle, const REAL* bias, int group, int rows, int columns,
                             int stride, REAL eta, REAL* z, REAL* out_h, REAL* out_slope)
{
    EACH_HERE(m, columns) {
        for (int low = 0; low < rows; low += CHUNK) {
            REAL value[CHUNK];
#pragma unroll
            for (int i = 0; i < CHUNK; i++) value[i] = z[(low + i) * stride + m] + bias[low + i];
            add_rows(triangle + low, group, z + m, stride, low, value);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                REAL slope = REAL(0);
                const REAL h = Sigma::value(eta, value[i], slope);
#pragma unroll
                for (int k = i + 1; k < CHUNK; k++) value[k] += triangle[(low + i) * group + low + k] * h;
                z[(low + i) * stride + m] = h;
                if (out_h) out_h[(low + i) * columns + m] = h;
                if (out_slope) out_slope[(low + i) * columns + m] = slope;
            }
        }
    }
}

// The same for a group without a triangle: elementwise.
template <class Sigma>
DEVICE void forward_units(const REAL* bias, int rows, int bits, int stride, REAL eta, REAL* z, REAL* out_h,
                          REAL* out_slope)
{
    EACH_HERE(t, rows << bits) {
        const int i = t >> bits, m = t - (i << bits);
        REAL slope = REAL(0);
        const REAL h = Sigma::value(eta, z[i * stride + m] + bias[i], slope);
        z[i * stride + m] = h;
        if (out_h) out_h[t] = h;
        if (out_slope) out_slope[t] = slope;
    }
}

// r = q sigma' in place of the products a . p in `q`, from the last row to the first.
DEVICE void backward_triangle(const REAL* triangle, int group, int rows, int columns, int stride, int code,
                              const REAL* h, const REAL* slope, REAL* q)
{
    EACH_HERE(m, columns) {
        for (int low = rows - CHUNK; low >= 0; low -= CHUNK) {
            REAL value[CHUNK];
#pragma unroll
            for (int i = 0; i < CHUNK; i++) value[i] = q[(low + i) * stride + m];
            const int next = low + CHUNK;
            add_rows(triangle + next * group + low, group, q + next * stride + m, stride, rows - next, value);
#pragma unroll
            for (int i = CHUNK - 1; i >= 0; i--) {
                const REAL kept = slope ? slope[(low + i) * columns + m] : REAL(0);
                const REAL r = value[i] * slope_from(code, h[(low + i) * stride + m], kept);
#pragma unroll
                for (int k = 0; k < i; k++) value[k] += triangle[(low + i) * group + low + k] * r;
                q[(low + i) * stride + m] = r;
            }
        }
    }
}

DEVICE void backward_units(int rows, int bits, int stride, int code, const REAL* h, const REAL* slope, REAL* q)
{
    EACH_HERE(t, rows << bits) {
        const int i = t >> bits, m = t - (i << bits);
        q[i * stride + m] *= slope_from(code, h[i * stride + m], slope ? slope[t] : REAL(0));
    }
}

// A row of the table, read one group ahead.
struct Group {
    Int slot, state;
    int number, slots, flag;
};
DEVICE Group group_at(const Int* groups, int number)
{
    const Int* row = groups + number * FIELDS;
    return {row[SLOT], row[STATE], number, int(row[SLOTS]), int(row[FLAG])};
}

// Begin to copy w or a of a group, and its triangle.
DEVICE void send_units(const Group& group, int D, int G, const REAL* units, const REAL* corner, REAL* inward,
                       REAL* triangle)
{
    send(units + Int(group.number) * (D * G), inward, D * G);
    if (group.flag & TRIANGLE) send(corner + Int(group.number) * (G * G), triangle, group.slots * G);
}

// Begin to copy h of a group from the tape, and X at its start unless it is in shared memory already.
DEVICE void send_kept(const Group& group, int D, int bits, const REAL* tape_state, const REAL* tape_h, REAL* h, REAL* x)
{
    send_rows(tape_h + (group.slot << bits), h, group.slots, bits);
    if (group.flag & CLOSES) send_rows(tape_state + (group.state * D << bits), x, D, bits);
}

// All groups for the tiles of this block. What a group needs first (its units' weights, values and states) is copied
// while the previous group is computed; what its last product needs, while its first one is computed.
//
// start (D, all samples) and target (K, all samples); rows: which samples to use if `some`, else all; samples: how
// many. groups (count, FIELDS); stacked parameters as `stack` makes them; readout (K', D') and its transpose, padded to
// multiples of 4; tile B = 8, 16, 32 or 64. tape: `tape_size` numbers a block, holding states (states, D', B), values
// (slots, B), their slopes (slots, B) if kept, a sum begun by pieces of a wide layer (D', B) and the gradient in the
// outputs (K', B). parts: (BLOCKS, slots, 2 D' + G + 4), written for every slot in use. mode: the outputs (K, samples)
// alone, or with the loss of each sample, or with the gradient; arrays that are not needed are not written.
#define OUTPUTS 0
#define LOSSES 1
#define GRADIENT 2
KERNEL TWO_BLOCKS network_pass(
    Int mode, const REAL* start, const REAL* target, const Int* rows, Int some, Int all_samples, Int samples, Int width,
    Int padded, Int group_size, Int tile, Int outputs, Int padded_outputs, const Int* groups, Int group_count,
    const REAL* w, const REAL* a, const REAL* cw, const REAL* ca, const REAL* bias, const REAL* below,
    const REAL* above, const REAL* readout, const REAL* turned, Int code, double eta_, Int loss, REAL* tape,
    Int tape_size, Int states, Int slots, REAL* out_output, double* out_loss, REAL* out_parts)
{
    SHARED(REAL, memory);
    const int D = int(padded), G = int(group_size), B = int(tile), stride = B + 4, K = int(padded_outputs);
    const int columns = 2 * D + G + 4, count = int(group_count), bits = B < 16 ? 3 : B < 32 ? 4 : B < 64 ? 5 : 6;
    const REAL eta = REAL(eta_);
    const bool gradient = mode == GRADIENT, keep = gradient && KEEPS_SLOPE(code);
    REAL* state = memory;                // (D', B): X, then p
    REAL* other = state + D * stride;    // (D', B): X at a group's start
    REAL* h = other + D * stride;        // (G, B)
    REAL* r = h + G * stride;            // (G, B)
    REAL* inward = r + G * stride;       // (D', G): w or a, transposed
    REAL* outward = inward + D * G;      // (G, D'): c a or c w
    REAL* triangle = outward + D * G;    // (G, G)
    REAL* shift = triangle + G * G;      // (G,)

    REAL* tape_state = tape + BLOCK * tape_size;
    REAL* tape_h = tape_state + (gradient ? states * D * B : 0);
    REAL* tape_slope = tape_h + (gradient ? slots * B : 0);
    REAL* begun = tape_slope + (keep ? slots * B : 0);
    REAL* seed = begun + D * B;

    bool add = false;
    for (Int number = BLOCK; number * B < samples; number += BLOCKS, add = true) {
        const Int low = number * B;
        EACH_HERE(t, D * B) {  // unused columns repeat the last sample, so that they are as finite as it
            const int d = t >> bits, m = t - (d << bits);
            const Int at = low + m < samples ? low + m : samples - 1;
            state[d * stride + m] = d < width ? start[d * all_samples + (some ? rows[at] : at)] : REAL(0);
        }
        Group next = group_at(groups, 0);
        send_units(next, D, G, w, below, inward, triangle);
        send(bias, shift, next.slots);
        SENT();
        for (int g = 0; g < count; g++) {
            const Group group = next;
            const int n = group.slots, flag = group.flag;
            if (g + 1 < count) next = group_at(groups, g + 1);
            BARRIER();
            send(ca + Int(g) * (D * G), outward, n * D);
            SENT();
            if (gradient && (flag & OPENS)) keep_rows(state, tape_state + (group.state * D << bits), D, bits);
            LANDED(1);  // all but that
            BARRIER();
            product<true>(inward, G, state, stride, n, bits, D, nullptr, 0, h, stride);
            BARRIER();
            REAL* keep_h = gradient ? tape_h + (group.slot << bits) : nullptr;
            REAL* keep_slope = keep ? tape_slope + (group.slot << bits) : nullptr;
            if (flag & TRIANGLE) {
                WITH_ACTIVATION(code, Sigma, forward_triangle<Sigma>(triangle, shift, G, n, B, stride, eta, h, keep_h,
                                                                     keep_slope))
            } else {
                WITH_ACTIVATION(code, Sigma, forward_units<Sigma>(shift, n, bits, stride, eta, h, keep_h, keep_slope))
            }
            LANDED(0);
            BARRIER();
            if (g + 1 < count) {
                send_units(next, D, G, w, below, inward, triangle);
                send(bias + Int(g + 1) * G, shift, next.slots);
                SENT();
            }
            const REAL* base = flag & OPENS ? state : begun;
            REAL* into = flag & CLOSES ? state : begun;
            product<false>(outward, D, h, stride, D, bits, n, base, flag & OPENS ? stride : B, into,
                           flag & CLOSES ? stride : B);
        }
        BARRIER();
        if (gradient) {  // the last group is still `next`
            send_units(next, D, G, a, above, inward, triangle);
            SENT();
            send_kept(next, D, bits, tape_state, tape_h, h, other);
            SENT();
        }
        product<false>(turned, K, state, stride, K, bits, D, nullptr, 0, seed, B);
        BARRIER();
        EACH_HERE(m, B) {
            const Int at = low + m;
            if (at < samples) {
                for (Int k = 0; k < outputs; k++) out_output[k * samples + at] = seed[k * B + m];
                if (mode != OUTPUTS) {
                    const REAL* wanted = target + (some ? rows[at] : at);
                    out_loss[at] = replace_by_gradient(int(loss), int(outputs), wanted, all_samples, seed + m, B);
                }
            }
            if (gradient)  // nothing flows back from unused columns and padded outputs
                for (Int k = at < samples ? outputs : 0; k < K; k++) seed[k * B + m] = REAL(0);
        }
        if (!gradient) continue;
        BARRIER();
        product<true>(readout, D, seed, B, D, bits, K, nullptr, 0, state, stride);
        for (int g = count - 1; g >= 0; g--) {
            const Group group = next;
            const int n = group.slots, flag = group.flag;
            if (g > 0) next = group_at(groups, g - 1);
            BARRIER();
            send(cw + Int(g) * (D * G), outward, n * D);
            SENT();
            LANDED(2);  // a and the triangle
            BARRIER();
            product<true>(inward, G, state, stride, n, bits, D, nullptr, 0, r, stride);
            LANDED(1);  // h and X
            BARRIER();
            const REAL* slope = keep ? tape_slope + (group.slot << bits) : nullptr;
            if (flag & TRIANGLE)
                backward_triangle(triangle, G, n, B, stride, int(code), h, slope, r);
            else
                backward_units(n, bits, stride, int(code), h, slope, r);
            LANDED(0);
            BARRIER();
            if (g > 0) {
                send_units(next, D, G, a, above, inward, triangle);
                SENT();
            }
            correlate(h, r, other, state, stride, n, D, G, B, flag & TRIANGLE, add,
                      out_parts + (BLOCK * slots + group.slot) * columns, columns);
            BARRIER();  // before the next tile too
            if (g > 0) {
                send_kept(next, D, bits, tape_state, tape_h, h, other);
                SENT();
            }
            if (group.state == 0) continue;  // nothing asks for the adjoint before the first layer
            const REAL* base = flag & CLOSES ? state : begun;
            REAL* into = flag & OPENS ? state : begun;
            product<false>(outward, D, r, stride, D, bits, n, base, flag & CLOSES ? stride : B, into,
                           flag & OPENS ? stride : B);
        }
    }
}
