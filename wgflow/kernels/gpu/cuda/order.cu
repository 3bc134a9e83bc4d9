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

// Three weights less a sixth of their second difference, on five layers; those of ghost layers folded into the three outer
// ones. The middle of the five lies `low` layers inside the first and `high` inside the last.
DEVICE void deposit_shares(double a, double b, double c, Int low, Int high, double* shares) {
    shares[0] = -a / 6.0, shares[4] = -c / 6.0;
    shares[1] = (8.0 * a - b) / 6.0, shares[2] = (8.0 * b - (a + c)) / 6.0, shares[3] = (8.0 * c - b) / 6.0;
    for (int end = 0; end < 2; ++end) {
        const Int inside = end ? high : low;
        double *outer = shares + (end ? 4 : 0), *next = shares + (end ? 3 : 1), *far = shares + (end ? 1 : 3);
        double* last = shares + (end ? 0 : 4);
        if (inside == 0) {
            const double two = *outer, one = *next;
            shares[2] += 6.0 * two + 3.0 * one, *far -= 8.0 * two + 3.0 * one, *last += 3.0 * two + one;
            *outer = 0.0, *next = 0.0;
        } else if (inside == 1) {
            const double one = *outer;
            *next += 3.0 * one, shares[2] -= 3.0 * one, *far += one, *outer = 0.0;
        }
    }
}

// Layers, weights S_k(tau) and slopes S_k'(tau) of the shape function, `reach` of them a particle: 5 with the spline, 2
// with the hat and with two layers or one, 3 with the spline whose outer layers are clipped (wgflow.model.depth.Deposit).
KERNEL deposit_stencil(Int count, Int layers, Int reach, const double* tau, Int* layer, double* share, double* slope) {
    EACH(i, count) {
        const double u = (double)layers * tau[i] - 0.5, nearest = reach == 2 ? floor(u) : rint(u);  // half to even
        const Int last = reach == 5 ? layers - 1 : layers > 2 ? layers - 2 : 0;
        const Int k = reach == 3 ? (Int)nearest : nearest < 0.0 ? 0 : nearest > (double)last ? last : (Int)nearest;
        const double r = u - (double)k;
        double shares[5] = {1.0 - r, r, 0.0, 0.0, 0.0}, slopes[5] = {-1.0, 1.0, 0.0, 0.0, 0.0};
        if (reach != 2) {
            shares[0] = 0.5 * ((0.5 - r) * (0.5 - r)), shares[1] = 0.75 - r * r, shares[2] = 0.5 * ((0.5 + r) * (0.5 + r));
            slopes[0] = r - 0.5, slopes[1] = -2.0 * r, slopes[2] = r + 0.5;
        }
        if (reach == 5) {
            deposit_shares(shares[0], shares[1], shares[2], k, last - k, shares);
            deposit_shares(slopes[0], slopes[1], slopes[2], k, last - k, slopes);
        }
        for (Int c = 0; c < reach; ++c) {
            const Int at = k + c - reach / 2 + (reach == 2 ? 1 : 0);
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
