"""The scopes of tokens."""

READ = "videos:read"
"""Everything that costs nothing: tools that read, resources, prompts, completions, subscriptions."""
CREATE = "videos:create"
"""The tools that cost money."""
SCOPES = (READ, CREATE)
