"""Who decides what: CODEOWNERS, people, a specialist's history, routing, the gate. Pure: no clock, disk or network."""
