"""Keeps the nodes that answer for names as the endpoints of kube-system/kube-dns."""
