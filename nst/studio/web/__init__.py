"""The studio's page and its API. It knows Gradio and the browser, and no more of a run than what it is told."""
