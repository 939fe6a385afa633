"""Networks that turn an encoder's features into logits at tile size."""
