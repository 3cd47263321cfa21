"""How the operator speaks to the API server and to engines: raw dicts in, raw dicts out, no decisions."""
