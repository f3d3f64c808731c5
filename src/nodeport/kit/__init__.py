"""What the standard library lacks: clocks, backoff, bitmaps, random names, logs. Knows nothing of Kubernetes."""
