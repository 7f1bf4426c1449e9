"""The Gradio front end: one file a tab; no torch maths here."""
