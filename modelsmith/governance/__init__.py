"""Who decides what: CODEOWNERS, people, a specialist's life, routing and the gate. Pure: no clock, disk or network."""
