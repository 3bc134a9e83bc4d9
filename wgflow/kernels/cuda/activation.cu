// Activations and losses, selected by the codes of wgflow.kernels.gpu. Comparisons let NaN through.

#define KEEPS_SLOPE(code) ((code) >= 3)  // the slope of the others follows from the value

// sigma(z), and sigma'(z) for those whose slope is kept.
DEVICE REAL activate(int code, REAL eta, REAL z, REAL& slope)
{
    switch (code) {
    case 0:
        return z;
    case 1:
        return tanh(z);
    case 2:
        return z <= REAL(0) ? REAL(0) : z;
    case 3: {
        const REAL t = z <= REAL(0) ? REAL(0) : z;
        slope = t + t;
        return t * t;
    }
    case 4: {
        const REAL t = z <= -eta ? REAL(0) : z + eta;
        const bool bent = z <= eta;
        slope = bent ? t / (REAL(2) * eta) : (z > eta ? REAL(1) : z);
        return bent ? t * t / (REAL(4) * eta) : z;
    }
    case 5: {
        const REAL t = REAL(0.5) * (REAL(1) + erf(z * REAL(0.70710678118654752)));
        slope = t + z * REAL(0.39894228040143268) * exp(REAL(-0.5) * z * z);
        return z * t;
    }
    default:
        slope = cos(z);
        return sin(z);
    }
}

// sigma' from the value h, or the one kept.
DEVICE REAL slope_from(int code, REAL h, REAL kept)
{
    return code == 1 ? REAL(1) - h * h : code == 2 ? (h <= REAL(0) ? REAL(0) : REAL(1)) : code == 0 ? REAL(1) : kept;
}

// Loss of one sample with these outputs, which its gradient in them takes the place of; the K numbers of `target` and
// `output` are as far apart as their strides say.
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
