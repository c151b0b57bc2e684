"""Size, accuracy, latency and memory: what a pruned model really gained."""
