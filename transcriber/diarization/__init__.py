"""Who speaks, by voice: embeddings from a network, clustered, and matched to words."""
