"""One request's life: HTTP in, admission, relay, HTTP out, observation."""
