"""Pull requests, whichever forge holds them."""
