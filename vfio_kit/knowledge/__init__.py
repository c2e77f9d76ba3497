"""TABLES: facts about hardware, drivers and guest systems, each with its source; no logic."""
