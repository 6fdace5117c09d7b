"""What every governed file and machine record is: frozen types, canonical JSON, digests. Imports nothing of ours."""
