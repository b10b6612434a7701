"""What `LLMPrompt` is made of: templates, the two protocols, sending, trying again, prices, and the log."""
