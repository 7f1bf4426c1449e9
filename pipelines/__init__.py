"""What generates: load and run models. Knows no Gradio and no training."""
