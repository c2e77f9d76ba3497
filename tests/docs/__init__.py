"""The manual, held to what it says: its commands run, its links lead somewhere, its names exist."""
