"""Settings: what can be set, how a value is read, and which address may be a gateway."""
