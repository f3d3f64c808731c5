"""The node: registers itself, keeps its lease, and runs the pods that are assigned to it as real processes.

It builds network namespaces, veths and routes, starts containers through a `Runtime`, probes them and reports what it
sees to the API. It never decides where a pod runs, never reads the store and never touches Service traffic: that is
the proxy's.
"""
