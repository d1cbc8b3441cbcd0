"""What the server offers: tools, resources with subscriptions, prompts and completions."""
