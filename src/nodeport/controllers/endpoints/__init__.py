"""The older Endpoints object of each Service with a selector."""
