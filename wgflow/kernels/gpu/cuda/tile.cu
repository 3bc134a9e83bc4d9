// Matrix products of a block of threads in shared memory, each thread making 4 x 4 outputs at a time.

struct alignas(16) Four {
    REAL v[4];
};

DEVICE Four four(const REAL* place) { return *reinterpret_cast<const Four*>(place); }
DEVICE void put_four(REAL* place, const Four& numbers) { *reinterpret_cast<Four*>(place) = numbers; }
DEVICE void put_four_shared(REAL* place, const Four& numbers)
{
    if constexpr (sizeof(REAL) == 4)
        STORE_SHARED(place, numbers.v);
    else
        put_four(place, numbers);
}

// Two numbers from that of a thread: i below 2^bits, and j. A warp reads 16 bytes a thread of shared memory in half the
// time if neighbours (0 and 1, 2 and 3, ...), or else those two apart, read the same; so that this holds both for what
// depends on i alone and for what depends on j alone, the last bit is i's, and the next is j's if `j` come in `pairs`.
struct Pair {
    int i, j;
};
DEVICE Pair interleaved(int thread, int bits, bool pairs)
{
    const int rest = thread >> (pairs ? 2 : 1), high = rest >> (bits - 1);
    const int i = (rest - (high << (bits - 1))) * 2 + thread % 2;
    return {i, pairs ? high * 2 + thread / 2 % 2 : high};
}

// Adds up the next products of a source, 2 `pairs` times: each thread loads numbers while it multiplies the previous
// ones.
template <class Source> DEVICE void add_up(Source from, int pairs, REAL (&sum)[4][4])
{
    auto even = from.next(), odd = even;
#pragma unroll 1
    for (int more = pairs - 1; more; more--) {
        odd = from.next();
        from.add(sum, even);
        even = from.next();
        from.add(sum, odd);
    }
    odd = from.next();
    from.add(sum, even);
    from.add(sum, odd);
}

// Columns of a and b, two k at a time.
struct Two {
    Four u[2], v[2];
};

// sum[r][c] += sum_k u[k][r] v[k][c], in the order of k.
DEVICE void add_outer(REAL (&sum)[4][4], const Two& two)
{
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) sum[r][c] += two.u[k].v[r] * two.v[k].v[c];
}

struct Columns {
    const REAL *a, *b;
    int a_stride, b_stride;
    DEVICE Two next()
    {
        Two two;
#pragma unroll
        for (int k = 0; k < 2; k++, a += a_stride, b += b_stride) two.u[k] = four(a), two.v[k] = four(b);
        return two;
    }
    DEVICE void add(REAL (&sum)[4][4], const Two& two) { add_outer(sum, two); }
};

// out[i][m] = base[i][m] + sum_k a[k][i] b[k][m] for m < 2^bits, with base = 0 where there is none. `rows`, `inner` and
// all strides are multiples of 4; bits is 3 or more. `shared` says that `out` is in shared memory.
template <bool shared>
DEVICE void product(const REAL* a, int a_stride, const REAL* b, int b_stride, int rows, int bits, int inner,
                    const REAL* base, int base_stride, REAL* out, int out_stride)
{
    EACH_HERE(t, (rows / 4) << (bits - 2)) {
        const Pair at = interleaved(t, bits - 2, rows % 8 == 0);
        const int i = 4 * at.j, m = 4 * at.i;
        REAL sum[4][4];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const Four from = base ? four(base + (i + r) * base_stride + m) : Four{};
#pragma unroll
            for (int c = 0; c < 4; c++) sum[r][c] = from.v[c];
        }
        add_up(Columns{a + i, b + m, a_stride, b_stride}, inner / 4, sum);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            Four into;
#pragma unroll
            for (int c = 0; c < 4; c++) into.v[c] = sum[r][c];
            if constexpr (shared)
                put_four_shared(out + (i + r) * out_stride + m, into);
            else
                put_four(out + (i + r) * out_stride + m, into);
        }
    }
}

// Four samples of four rows of u and of v.
struct Square {
    Four u[4], v[4];
};

// sum[r][c] += sum_k u[r][k] v[c][k], in the order of k.
DEVICE void add_inner(REAL (&sum)[4][4], const Square& s)
{
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++)
#pragma unroll
            for (int k = 0; k < 4; k++) sum[r][c] += s.u[r].v[k] * s.v[c].v[k];
}

struct Rows {
    const REAL *u, *v;
    int u_stride, v_stride;
    DEVICE Square next()
    {
        Square made;
#pragma unroll
        for (int k = 0; k < 4; k++) made.u[k] = four(u + k * u_stride), made.v[k] = four(v + k * v_stride);
        u += 4, v += 4;
        return made;
    }
    DEVICE void add(REAL (&sum)[4][4], const Square& s) { add_inner(sum, s); }
};

// Sums over the samples of a tile for the rows of one group, in the columns [h p | r x | h r | r] of a row of `out`:
// what d_a, d_w, the triangle and d_b are made of. The third part only if `triangle`. Added to what is there if `add`.
// `rows` is a multiple of 8.
DEVICE void correlate(const REAL* h, const REAL* r, const REAL* x, const REAL* p, int stride, int rows, int width,
                      int group, int samples, bool triangle, bool add, REAL* out, int out_stride)
{
    const int down = rows / 4, wide = width / 4, parts = 2 * wide + (triangle ? down : 0);
    const int bits = down > 4 ? 3 : down > 2 ? 2 : 1;
    EACH_HERE(t, parts << bits) {
        const Pair at = interleaved(t, bits, true);
        const int i = at.i, part = at.j;  // rows i, i + down, ...: their banks differ
        if (i >= down) continue;
        const bool second = part >= wide && part < 2 * wide, third = part >= 2 * wide;
        const int column = 4 * (third ? part - 2 * wide : second ? part - wide : part);
        const REAL* u = (second ? r : h) + i * stride;
        const REAL* v = (third ? r : second ? x : p) + column * stride;
        REAL sum[4][4] = {};
        add_up(Rows{u, v, down * stride, stride}, samples / 8, sum);
        REAL* place = out + Int(i) * out_stride + column + (third ? 2 * width : second ? width : 0);
#pragma unroll
        for (int row = 0; row < 4; row++, place += down * out_stride) {
            Four into = add ? four(place) : Four{};
#pragma unroll
            for (int c = 0; c < 4; c++) into.v[c] += sum[row][c];
            put_four(place, into);
        }
    }
    for (int i = THREADS - 1 - THREAD; i < rows; i += THREADS) {  // by the threads with the least work above
        Four total = {};
        for (int m = 0; m < samples; m += 4) {
            const Four some = four(r + i * stride + m);
#pragma unroll
            for (int k = 0; k < 4; k++) total.v[k] += some.v[k];
        }
        REAL* place = out + Int(i) * out_stride + 2 * width + group;
        *place = (total.v[0] + total.v[1]) + (total.v[2] + total.v[3]) + (add ? *place : REAL(0));
    }
}

#define AT_ONCE (16 / int(sizeof(REAL)))  // numbers of an asynchronous copy

// Begin to copy `count` numbers, a multiple of 4, from global memory to shared memory.
DEVICE void send(const REAL* from, REAL* to, int count)
{
    EACH_HERE(t, count / AT_ONCE) SEND(to + t * AT_ONCE, from + t * AT_ONCE);
}

// The same for rows of B = 2^bits numbers, B + 4 apart in shared memory.
DEVICE void send_rows(const REAL* from, REAL* to, int rows, int bits)
{
    EACH_HERE(t, (rows << bits) / AT_ONCE) {
        const int at = t * AT_ONCE;
        SEND(to + at + 4 * (at >> bits), from + at);
    }
}

// Copy rows of 2^bits numbers, 2^bits + 4 apart in shared memory, to global memory.
DEVICE void keep_rows(const REAL* from, REAL* to, int rows, int bits)
{
    EACH_HERE(t, (rows << bits) / 4) put_four(to + 4 * t, four(from + 4 * t + 4 * (4 * t >> bits)));
}
