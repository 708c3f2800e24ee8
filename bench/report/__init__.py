"""Tables, plots and the leaderboard page, from results."""
