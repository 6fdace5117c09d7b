"""Tickets: names of a job that nobody can guess, each good for whoever it was given to and for nobody else.

A job's id is short and everybody's who may see jobs. A ticket is ``id-turn-mark``, where the mark is an HMAC-SHA-256 of
its holder under a secret that stands in the job's own row, cut to 128 bits. So nothing is kept of tickets; the same job
asked for twice by one holder is one ticket, and the ticket of another holder does not open it.
"""

from __future__ import annotations

import hmac
import re

from modelsmith.fleet.job_records import JobRequest
from modelsmith.fleet.jobs import Job, Jobs
from modelsmith.schema.errors import InvalidInput

_TICKET = re.compile(r"(?P<id>[0-9a-f]{8})-(?P<turn>0|[1-9][0-9]{0,5})-[0-9a-f]{32}", re.ASCII)


def ticket(request: JobRequest, holder: str) -> str:
    """The holder's ticket to the present turn of a job."""
    return _of_turn(request, request.turn, holder)


def find(jobs: Jobs, ticket_text: str, holder: str) -> tuple[Job, bool]:
    """The job that a holder's ticket is for, and whether the ticket's own turn is the one that the job is in.

    Raises:
        InvalidInput: ``unknown-task``, the same for a job that is not there, one of another, and no ticket at all.
    """
    match = _TICKET.fullmatch(ticket_text)
    try:
        job = jobs.find(match["id"]) if match else None
    except InvalidInput:
        job = None
    if match and job and job.submitted.secret:
        turn = int(match["turn"])
        if turn <= job.submitted.turn and hmac.compare_digest(ticket_text, _of_turn(job.submitted, turn, holder)):
            return job, turn == job.submitted.turn
    raise InvalidInput("unknown-task", "There is no such task", "Ask for the work again: that is a task of your own.")


def _of_turn(request: JobRequest, turn: int, holder: str) -> str:
    signed_text = f"{request.id}\0{turn}\0{holder}".encode("utf-8", "surrogatepass")
    return f"{request.id}-{turn}-{hmac.digest(request.secret.encode(), signed_text, 'sha256')[:16].hex()}"
