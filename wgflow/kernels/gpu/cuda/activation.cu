// Activations and losses, selected by the codes of wgflow.kernels.codes. Comparisons let NaN through.

#define KEEPS_SLOPE(code) ((code) >= 3)  // the slope of the others follows from the value

// A code as a type, so that loops over units contain no switch.
template <int code> struct Activation {
    // sigma(z), and sigma'(z) for those whose slope is kept.
    static DEVICE REAL value(REAL eta, REAL z, REAL& slope)
    {
        if constexpr (code == 0) {
            return z;
        } else if constexpr (code == 1) {
            return tanh(z);
        } else if constexpr (code == 2) {
            return z <= REAL(0) ? REAL(0) : z;
        } else if constexpr (code == 3) {
            const REAL t = z <= REAL(0) ? REAL(0) : z;
            slope = t + t;
            return t * t;
        } else if constexpr (code == 4) {
            const REAL t = z <= -eta ? REAL(0) : z + eta;
            const bool bent = z <= eta;
            slope = bent ? t / (REAL(2) * eta) : (z > eta ? REAL(1) : z);
            return bent ? t * t / (REAL(4) * eta) : z;
        } else if constexpr (code == 5) {
            const REAL t = REAL(0.5) * (REAL(1) + erf(z * REAL(0.70710678118654752)));
            slope = t + z * REAL(0.39894228040143268) * exp(REAL(-0.5) * z * z);
            return z * t;
        } else {
            slope = cos(z);
            return sin(z);
        }
    }
};

// A statement with `Sigma` as the activation of a code; one switch, outside of all loops.
#define WITH_ACTIVATION(code, Sigma, ...)                                 \
    switch (int(code)) {                                                  \
    case 0: { typedef Activation<0> Sigma; __VA_ARGS__; break; }          \
    case 1: { typedef Activation<1> Sigma; __VA_ARGS__; break; }          \
    case 2: { typedef Activation<2> Sigma; __VA_ARGS__; break; }          \
    case 3: { typedef Activation<3> Sigma; __VA_ARGS__; break; }          \
    case 4: { typedef Activation<4> Sigma; __VA_ARGS__; break; }          \
    case 5: { typedef Activation<5> Sigma; __VA_ARGS__; break; }          \
    default: { typedef Activation<6> Sigma; __VA_ARGS__; }                \
    }

// sigma' from the value h, or the stored one.
DEVICE REAL slope_from(int code, REAL h, REAL kept)
{
    return code == 1 ? REAL(1) - h * h : code == 2 ? (h <= REAL(0) ? REAL(0) : REAL(1)) : code == 0 ? REAL(1) : kept;
}

// Loss of one sample; its gradient in the outputs replaces the outputs. The K numbers of `target` and `output` have the
// given strides.
DEVICE double replace_by_gradient(int loss, int outputs, const REAL* target, Int target_stride, REAL* output, Int stride)
{
    double total = 0;
    if (loss == 0) {
        for (int k = 0; k < outputs; k++) {
            const REAL r = output[k * stride] - target[k * target_stride];
            total += 0.5 * double(r) * double(r);
            output[k * stride] = r;
        }
        return total;
    }
    double high = output[0], norm = 0, mass = 0;
    for (int k = 1; k < outputs; k++) high = output[k * stride] > high ? double(output[k * stride]) : high;
    for (int k = 0; k < outputs; k++) {
        norm += exp(double(output[k * stride]) - high);
        mass += double(target[k * target_stride]);
    }
    for (int k = 0; k < outputs; k++) {
        const double shifted = double(output[k * stride]) - high, y = target[k * target_stride];
        total += y * (log(norm) - shifted);
        output[k * stride] = REAL(exp(shifted) * mass / norm - y);
    }
    return total;
}
