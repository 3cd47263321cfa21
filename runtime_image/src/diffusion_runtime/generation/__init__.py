"""Request to pixels, inside a rank process; nothing here knows HTTP."""
