"""What is generated from the tools and the settings: manifests, the published surface, the tables of README and docs.

`registry`: the MCP registry's entry. `bundles`: what a host's own installer loads. `clients`: configurations and links.
"""

from sora_mcp.distribution.manifests.generated import Drift, drift, write

__all__ = ["Drift", "drift", "write"]
