"""The recording in README: a session in the virtual host, as a cast, a picture and a text."""
