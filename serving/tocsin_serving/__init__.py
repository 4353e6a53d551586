"""Tocsin's serving room: the HTTP service, the web page and the batch jobs, thin shells over the library."""
