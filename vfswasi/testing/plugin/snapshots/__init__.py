"""Trees and texts that tests are compared with, as files beside them."""
