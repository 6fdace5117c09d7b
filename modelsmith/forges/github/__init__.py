"""GitHub as the forge: pull requests are GitHub's, what proves something about them are signed logs beside them."""
