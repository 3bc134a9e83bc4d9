// Matrix products of a block of threads in shared memory, each thread making 4 x 4 outputs at a time.

struct alignas(16) Four {
    REAL v[4];
};

DEVICE Four four(const REAL* place) { return *reinterpret_cast<const Four*>(place); }
DEVICE void put_four(REAL* place, const Four& numbers) { *reinterpret_cast<Four*>(place) = numbers; }

// out[i][m] = base[i][m] + sum_k a[k][i] b[k][m], with base = 0 where there is none. `rows`, `columns` and all strides
// are multiples of 4. Eight threads side by side take eight columns of tiles, so that a warp reads each number once.
DEVICE void product(const REAL* a, int a_stride, const REAL* b, int b_stride, int rows, int columns, int inner,
                    const REAL* base, int base_stride, REAL* out, int out_stride)
{
    const int across = columns / 4 < 8 ? columns / 4 : 8, down = rows / 4;
    EACH_HERE(t, down * (columns / 4)) {
        const int i = 4 * ((int(t) / across) % down);
        const int m = 4 * (int(t) / (across * down) * across + int(t) % across);
        REAL sum[4][4];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const Four from = base ? four(base + (i + r) * Int(base_stride) + m) : Four{};
#pragma unroll
            for (int c = 0; c < 4; c++) sum[r][c] = from.v[c];
        }
#pragma unroll 4
        for (int k = 0; k < inner; k++) {
            const Four u = four(a + Int(k) * a_stride + i), v = four(b + k * b_stride + m);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) sum[r][c] += u.v[r] * v.v[c];
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            Four into;
#pragma unroll
            for (int c = 0; c < 4; c++) into.v[c] = sum[r][c];
            put_four(out + (i + r) * Int(out_stride) + m, into);
        }
    }
}

// Sums over the samples of a tile for the rows of one group, in the columns [h p | r x | h r | r] of a row of `out`:
// what d_a, d_w, the triangle and d_b are made of. The third part only if `triangle`. Added to what is there if `add`.
DEVICE void correlate(const REAL* h, const REAL* r, const REAL* x, const REAL* p, int stride, int rows, int width,
                      int group, int samples, bool triangle, bool add, REAL* out, int out_stride)
{
    const int down = rows / 4, wide = width / 4, parts = 2 * wide + (triangle ? down : 0);
    EACH_HERE(t, down * parts) {
        const int i = int(t) % down, part = int(t) / down;  // rows i, i + down, ...: their banks differ
        const bool second = part >= wide && part < 2 * wide, third = part >= 2 * wide;
        const REAL* u = second ? r : h;
        const REAL* v = third ? r : second ? x : p;
        const int column = 4 * (third ? part - 2 * wide : second ? part - wide : part);
        REAL sum[4][4] = {}, total[4] = {};
        for (int m = 0; m < samples; m += 4) {
            Four left[4], right[4];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                left[k] = four(u + (i + k * down) * stride + m);
                right[k] = four(v + (column + k) * stride + m);
            }
#pragma unroll
            for (int row = 0; row < 4; row++) {
#pragma unroll
                for (int c = 0; c < 4; c++)
#pragma unroll
                    for (int k = 0; k < 4; k++) sum[row][c] += left[row].v[k] * right[c].v[k];
                total[row] += (left[row].v[0] + left[row].v[1]) + (left[row].v[2] + left[row].v[3]);
            }
        }
        const int place = column + (third ? 2 * width : second ? width : 0);
#pragma unroll
        for (int row = 0; row < 4; row++) {
            REAL* line = out + Int(i + row * down) * out_stride;
            Four into = add ? four(line + place) : Four{};
#pragma unroll
            for (int c = 0; c < 4; c++) into.v[c] += sum[row][c];
            put_four(line + place, into);
            if (part == wide) line[2 * width + group] = total[row] + (add ? line[2 * width + group] : REAL(0));
        }
    }
}

// Copy `rows` rows of `columns` numbers, a multiple of 4, between places of different strides.
DEVICE void copy(const REAL* from, int from_stride, REAL* to, int to_stride, int rows, int columns)
{
    const int across = columns / 4;
    EACH_HERE(t, rows * across) {
        const int i = int(t) / across, m = 4 * (int(t) % across);
        put_four(to + Int(i) * to_stride + m, four(from + Int(i) * from_stride + m));
    }
}
