"""The product's verbs: one typed function for each thing that a person or agent can ask for."""
