"""What every namespace has: its default ServiceAccount and the cluster's CA certificate."""
