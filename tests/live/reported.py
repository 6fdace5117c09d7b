"""Reports that make a specialist look worse than its incumbent."""

import json


def tell(desk, reports):
    for at in range(0, len(reports), 500):
        desk.recorder.feedback(json.dumps({"reports": reports[at : at + 500]}).encode())


def worse(desk):
    """Traffic on which the specialist wins half as often."""
    tell(desk, desk.traffic(2_000, 0.1, 0.4)[1])
