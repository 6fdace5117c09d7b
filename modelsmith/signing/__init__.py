"""Keys, signatures and what they speak of: SSH signatures of people, Sigstore bundles of the harness."""
