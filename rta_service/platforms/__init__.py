"""How each ad platform speaks: one folder a platform."""
