"""The operator as a process against a real API server and store on loopback, without a node.

What needs no pod is tested here: nothing has to be installed, and parts of the control plane may go.
"""
