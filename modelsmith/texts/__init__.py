"""How alike two texts are. Pure; knows no other room."""
