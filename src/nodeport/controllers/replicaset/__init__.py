"""As many pods of a template as a ReplicaSet asks for."""
