"""Where tokens come from: a batch of prompts in, completions out as they finish."""
