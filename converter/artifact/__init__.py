"""Chains and links as OCI artifacts: to registries and back, and a registry as a shared cache."""
