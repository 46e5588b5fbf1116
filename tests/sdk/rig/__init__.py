"""What the SDK tests are made of: the proxy under test, the upstreams behind it and the vendors' clients before it."""
