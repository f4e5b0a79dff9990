"""Kubernetes: an Indexed Job a trial."""
