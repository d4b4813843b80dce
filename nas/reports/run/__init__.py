"""The report of one run: its content as plain data, then HTML, Markdown, pictures, CSV and the terminal's summary."""
