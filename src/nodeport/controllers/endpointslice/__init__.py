"""EndpointSlices of Services with a selector: which pods answer, where, and how ready they are."""
