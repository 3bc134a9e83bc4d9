// The noise of wgflow.base.rng on the device: the same counters, so the same uniform numbers, bit for bit.

typedef unsigned long long Word;

// Upper half of a 128-bit product, from the products of the factors' halves.
DEVICE Word upper(Word a, Word b) {
    const Word mask = 0xffffffffULL;
    const Word low = (a & mask) * (b & mask), left = (a >> 32) * (b & mask), right = (a & mask) * (b >> 32);
    const Word middle = (low >> 32) + (left & mask) + (right & mask);
    return (a >> 32) * (b >> 32) + (left >> 32) + (right >> 32) + (middle >> 32);
}

// Philox-4x64-10 of Salmon, Moraes, Dror and Shaw (2011): four words from a counter (c[0], c[1], c[2], c[3]) and a key.
DEVICE void philox(Word* c, Word key0, Word key1) {
    for (int round = 0; round < 10; ++round) {
        const Word a = 0xD2E7470EE14C6C93ULL, b = 0xCA5A826395121157ULL;
        const Word high0 = upper(a, c[0]), low0 = a * c[0], high1 = upper(b, c[2]), low1 = b * c[2];
        c[0] = high1 ^ c[1] ^ key0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ key1;
        c[3] = low0;
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
}

// Number in (0, 1) from a word's upper 52 bits.
DEVICE double uniform_of(Word word) { return ((double)(Int)(word >> 12) + 0.5) * 0x1p-52; }

// Polynomial with eight coefficients, the constant one first.
DEVICE double horner(const double* c, double x) {
    double sum = c[7];
    for (int k = 6; k >= 0; --k) sum = sum * x + c[k];
    return sum;
}

// Inverse of the normal distribution function: algorithm AS 241, PPND16, of Wichura (Applied Statistics 37, 1988).
DEVICE double normal_of(double u) {
    const double near_a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                              1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                              3.3430575583588128105e+4, 2.5090809287301226727e+3};
    const double near_b[8] = {1.0,                      4.2313330701600911252e+1, 6.8718700749205790830e+2,
                              5.3941960214247511077e+3, 2.1213794301586595867e+4, 3.9307895800092710610e+4,
                              2.8729085735721942674e+4, 5.2264952788528545610e+3};
    const double far_a[8] = {1.42343711074968357734e0,   4.63033784615654529590e0,   5.76949722146069140550e0,
                             3.64784832476320460504e0,   1.27045825245236838258e0,   2.41780725177450611770e-1,
                             2.27238449892691845833e-2,  7.74545014278341407640e-4};
    const double far_b[8] = {1.0,                        2.05319162663775882187e0,   1.67638483018380384940e0,
                             6.89767334985100004550e-1,  1.48103976427480074590e-1,  1.51986665636164571966e-2,
                             5.47593808499534494600e-4,  1.05075007164441684324e-9};
    const double tail_a[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,   1.78482653991729133580e0,
                              2.96560571828504891230e-1, 2.65321895265761230930e-2,  1.24266094738807843860e-3,
                              2.71155556874348757815e-5, 2.01033439929228813265e-7};
    const double tail_b[8] = {1.0,                       5.99832206555887937690e-1,  1.36929880922735805310e-1,
                              1.48753612908506148525e-2, 7.86869131145613259100e-4,  1.84631831751005468180e-5,
                              1.42151175831644588870e-7, 2.04426310338993978564e-15};
    const double q = u - 0.5;
    if (fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * horner(near_a, r) / horner(near_b, r);
    }
    const double r = sqrt(-log(q < 0.0 ? u : 1.0 - u));
    const double x = r <= 5.0 ? horner(far_a, r - 1.6) / horner(far_b, r - 1.6)
                              : horner(tail_a, r - 5.0) / horner(tail_b, r - 5.0);
    return q < 0.0 ? -x : x;
}

// Four words of one row: number n of row i is word n % 4 of the counter of group n / 4 (wgflow.base.rng.uniform).
DEVICE void words_of(Word* c, Int seed, Int stream, Int step, Int row, Int quads, Int quad) {
    c[0] = (Word)(row * quads + quad) + 1;  // NumPy increments the counter before it draws
    c[1] = 0;
    c[2] = (Word)step;
    c[3] = 0;
    philox(c, (Word)seed, (Word)stream);
}

// theta <- keep theta + spread noise, tau <- tau + spread_tau noise, with the boundary condition in depth; entries that
// would not be finite keep their values and are counted, as in move_particles (wgflow.flow.operators.Langevin). shared:
// TILE + TILE_ROWS doubles.
KERNEL langevin(Int count, Int parameters, Int seed, Int stream, Int step, double keep, double spread,
                double spread_tau, Int boundary, const double* status, double* theta, double* tau, double* strange) {
    SHARED(double, shares);
    if (status[FAILED_STEP] >= 0.0) return;
    const Int tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
    const Int quads = (parameters + 4) / 4;  // of the parameters + 1 numbers of a row
    for (Int tile = BLOCK; tile < tiles; tile += BLOCKS) {
        EACH_HERE(task, TILE) {
            const Int i = tile * TILE_ROWS + task / TILE_LANES;
            double found = 0.0;
            for (Int quad = task % TILE_LANES; i < count && quad < quads; quad += TILE_LANES) {
                Word c[4];
                words_of(c, seed, stream, step, i, quads, quad);
                for (Int k = 0; k < 4 && quad * 4 + k <= parameters; ++k) {
                    const Int p = quad * 4 + k;
                    const bool in_theta = p < parameters;
                    double* to = in_theta ? theta + i * parameters + p : tau + i;
                    const double noise = normal_of(uniform_of(c[k]));
                    const double x = in_theta ? keep * *to + spread * noise : *to + spread_tau * noise;
                    if (is_finite(x)) *to = in_theta ? x : confine(x, boundary);
                    else found += 1.0;
                }
            }
            shares[task] = found;
        }
        sum_tile(1, shares, shares + TILE, tile, tiles, false, strange);
    }
}
