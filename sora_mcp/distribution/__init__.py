"""How the server reaches its clients: their own configurations, and the published manifests."""
