"""What is read: tables, words, figures and the page."""
