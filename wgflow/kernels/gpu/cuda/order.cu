// Order along depth, and where particles lie in the layers. All counts are integers, hence exact.

#define SPAN 256  // entries that a block reads together

#define ORDERED 16  // particles that a block places together
#define SHARES 8    // parts of all particles, with which a particle is compared in parallel

// Order of the particles by (tau, index), by counting those in front of each; the gap to the one just in front, with
// tau^(-1) = 0; and inverted[i], how many were in front of i by their ranks `before` and are behind it now.
// shared: 3 ORDERED SHARES numbers of 8 bytes.
KERNEL order_gaps(Int count, const double* tau, const Int* before, Int compare, Int* order, Int* rank, double* gap,
                  Int* inverted) {
    SHARED(double, lasts);
    Int* places = reinterpret_cast<Int*>(lasts + ORDERED * SHARES);
    Int* passes = places + ORDERED * SHARES;
    const int all = int(count);
    for (int low = int(BLOCK) * ORDERED; low < all; low += int(BLOCKS) * ORDERED) {
        EACH_HERE(task, ORDERED * SHARES) {
            const int i = low + task / SHARES;
            const double here = i < all ? tau[i] : 0.0;
            const Int was = i < all && compare ? before[i] : 0;
            double last = 0.0;  // depth of the one just in front
            int place = 0, passed = 0;
#pragma unroll 4
            for (int j = i < all ? task % SHARES : all; j < all; j += SHARES) {
                const double there = tau[j];
                const bool front = there < here || (there == here && j < i);
                if (front && (place == 0 || there >= last)) last = there;
                place += front;
                if (compare) passed += !front && before[j] < was;
            }
            lasts[task] = last, places[task] = place, passes[task] = passed;
        }
        BARRIER();
        EACH_HERE(row, ORDERED) {
            const int i = low + row;
            Int place = 0, passed = 0;
            double last = 0.0;
            for (int share = row * SHARES; share < (row + 1) * SHARES; ++share) {
                if (places[share] > 0 && (place == 0 || lasts[share] >= last)) last = lasts[share];
                place += places[share];
                passed += passes[share];
            }
            if (i >= all) continue;
            order[place] = i;
            rank[i] = place;
            gap[place] = place == 0 ? tau[i] : tau[i] - last;
            inverted[i] = passed;
        }
        BARRIER();  // the next particles reuse the shared memory
    }
}

// Gaps of particles at other depths that keep their order and ranks: E past an order switch, continued smoothly.
KERNEL continue_gaps(Int count, const double* tau, const Int* before, Int* order, Int* rank, double* gap) {
    EACH(place, count) {
        const Int i = before[place];
        order[place] = i;
        rank[i] = place;
        gap[place] = place == 0 ? tau[i] : tau[i] - tau[before[place - 1]];
    }
}

// Layers, weights S_k(tau) and slopes S_k'(tau) of the shape function, `reach` of them a particle: 3 with the quadratic
// spline, 2 with the hat (wgflow.model.depth.Deposit).
KERNEL deposit_stencil(Int count, Int layers, Int reach, const double* tau, Int* layer, double* share, double* slope) {
    EACH(i, count) {
        const double u = (double)layers * tau[i] - 0.5;
        const double k = reach == 2 ? floor(u) : rint(u);  // rint: half to even, as NumPy
        const double r = u - k;
        const double shares[3] = {reach == 2 ? 1.0 - r : 0.5 * ((0.5 - r) * (0.5 - r)),
                                  reach == 2 ? r : 0.75 - r * r, 0.5 * ((0.5 + r) * (0.5 + r))};
        const double slopes[3] = {reach == 2 ? -1.0 : r - 0.5, reach == 2 ? 1.0 : -2.0 * r, r + 0.5};
        for (Int c = 0; c < reach; ++c) {
            const Int at = (Int)k + c - (reach == 2 ? 0 : 1);
            layer[i * reach + c] = at < 0 ? 0 : at < layers ? at : layers - 1;
            share[i * reach + c] = shares[c];
            slope[i * reach + c] = slopes[c] * (double)layers;
        }
    }
}

// Entries of each layer in each run of SPAN entries: table[run][layer]. shared: SPAN doubles.
KERNEL count_layers(Int entries, Int layers, const Int* layer, Int* table) {
    SHARED(Int, some);
    for (Int low = BLOCK * SPAN; low < entries; low += BLOCKS * SPAN) {
        const Int here = entries - low < SPAN ? entries - low : SPAN;
        BARRIER();
        EACH_HERE(j, here) some[j] = layer[low + j];
        BARRIER();
        EACH_HERE(k, layers) {
            Int found = 0;
            for (Int j = 0; j < here; ++j) found += some[j] == k;
            table[low / SPAN * layers + k] = found;
        }
    }
}

// Where each layer begins, first[layers + 1], and in `table` how many of its entries lie in the runs before. One block.
KERNEL first_of_layers(Int runs, Int layers, Int* table, Int* first) {
    EACH_HERE(k, layers) {
        Int sum = 0;
        for (Int run = 0; run < runs; ++run) {
            const Int found = table[run * layers + k];
            table[run * layers + k] = sum;
            sum += found;
        }
        first[k + 1] = sum;
    }
    BARRIER();
    if (THREAD == 0) {
        first[0] = 0;
        for (Int k = 0; k < layers; ++k) first[k + 1] += first[k];
    }
}

// Entries (particle, c) in the order of their layers, those of one layer in order: place[e] is where e goes.
// shared: SPAN doubles.
KERNEL place_entries(Int entries, Int layers, Int reach, const Int* layer, const double* share, const double* mass,
                     const Int* table, const Int* first, Int* particle, double* weight, Int* place) {
    SHARED(Int, some);
    for (Int low = BLOCK * SPAN; low < entries; low += BLOCKS * SPAN) {
        const Int here = entries - low < SPAN ? entries - low : SPAN;
        BARRIER();
        EACH_HERE(j, here) some[j] = layer[low + j];
        BARRIER();
        EACH_HERE(j, here) {
            const Int e = low + j, k = some[j], i = e / reach;
            Int to = first[k] + table[low / SPAN * layers + k];
            for (Int other = 0; other < j; ++other) to += some[other] == k;
            place[e] = to;
            particle[to] = i;
            weight[to] = mass[i] * share[e];
        }
    }
}
