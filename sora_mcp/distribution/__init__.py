"""How clients get the server: their own configurations, and the published manifests."""
