"""EndpointSlices of Services without a selector, mirrored from the Endpoints that somebody wrote."""
