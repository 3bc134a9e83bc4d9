"""The problem and its measure: data, loss, blocks, activations, particles, depth schemes, regularisers."""
