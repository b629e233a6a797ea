"""Who speaks, by voice: vectors from a network, grouped and matched to words."""
