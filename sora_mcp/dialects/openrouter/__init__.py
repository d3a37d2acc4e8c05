"""OpenRouter's `/api/v1/videos` as a dialect."""
