"""The teacher of a run: opened, asked about plain images, given a classifier, or taken over as the encoder."""
