"""Jobs on another machine, over OpenSSH: the side that submits, and the side that works there."""
