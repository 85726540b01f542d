"""Images and masks, and the random views of them that training sees."""
