"""Trials in a Kubernetes cluster: what may be asked, what is rendered, what is checked, how it is run and read."""
