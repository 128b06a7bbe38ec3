"""Applications that tests serve in processes of their own, where no coverage is measured."""
