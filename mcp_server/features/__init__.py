"""Tools, resources with subscriptions, prompts and completions."""
