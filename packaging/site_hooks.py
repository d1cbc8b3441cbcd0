"""What the documentation site takes from the programs themselves, when ``make docs`` builds it."""
