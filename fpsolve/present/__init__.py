"""How it is shown: report, figures, result file."""
