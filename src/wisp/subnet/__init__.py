"""A sub-network is a differentiable view of a host."""
