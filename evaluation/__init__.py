"""What judges: metrics, judges and run records. Knows no Gradio."""
