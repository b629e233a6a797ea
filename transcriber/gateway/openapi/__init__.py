"""The OpenAPI document. In: the routes, and what their handlers say of themselves. Out: JSON."""
