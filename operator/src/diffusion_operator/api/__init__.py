"""The custom resource.

pydantic models that the CRD, the reference page and the RBAC rules are generated from.
"""
