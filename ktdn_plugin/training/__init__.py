"""What a training needs whichever toolbox runs it."""
