"""Who may call a team's server, and as whom: static tokens, an OAuth issuer's tokens, people's own upstream keys."""
