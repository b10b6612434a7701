"""What `LLMPrompt` is made of: templates, the two protocols, sending and trying again, prices, and what the log hears."""
