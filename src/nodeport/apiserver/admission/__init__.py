"""What a request's content must not do, whoever is allowed to send it."""
