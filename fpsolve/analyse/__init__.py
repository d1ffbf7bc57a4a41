"""What a solution says: moments, currents, escape times, closed forms."""
