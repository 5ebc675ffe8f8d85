"""The person's face: what a human's Discord client would do. The demo page and the acceptance tests use only this."""
