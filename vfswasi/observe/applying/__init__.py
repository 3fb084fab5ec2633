"""The same changes made somewhere else, or in what they were made on; as a whole, as far as a store can."""
