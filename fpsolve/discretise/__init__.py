"""From fields to rates: the Markov chain on the grid."""
