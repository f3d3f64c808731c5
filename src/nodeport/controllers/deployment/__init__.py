"""ReplicaSets in the numbers that roll a Deployment out."""
